// What persons decide about a study: correct it, move or join what belongs elsewhere, and take each of it back.

import { api, dicomweb, get, post, search, value } from './api.js'
import { Deed, html, link, REASON, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { day, identity, moment, person, t, told } from './words.js'

const uid = told.named.study
const CORRECTABLE = [
  ['PatientName', '00100010', t('Patient name')],
  ['PatientID', '00100020', t('Patient ID')],
  ['IssuerOfPatientID', '00100021', t('Issuer of the Patient ID')],
  ['PatientBirthDate', '00100030', t('Born')],
  ['PatientSex', '00100040', t('Sex')],
  ['AccessionNumber', '00080050', t('Accession number')],
  ['StudyDescription', '00081030', t('Description of the study')],
  ['StudyDate', '00080020', t('Date')],
]
const VERBS = {
  correct: t('corrected'), reject: t('hidden'), delete: t('deleted'), erase: t('erased'), hold: t('kept by a legal hold'),
  move: t('moved'), undo: t('taken back'), prefer: t('version preferred'), release: t('released'), discard: t('discarded'),
}

/** The decisions about the study that is looked at, for who may decide; `changed` is called when one was made. */
export function Decisions({ study, series, changed }) {
  const { answer, error, again } = useAnswer(() => get(`${api}/studies/${uid}/decisions`))
  const [deed, setDeed] = useState('')
  const [row, setRow] = useState()
  if (!study && !error && !answer?.length) return null
  const close = () => setDeed('')
  const done = () => { again(); changed() }
  const undo = (decided) => { setRow(decided); setDeed('undo') }
  return html`<section aria-label=${t('Decisions')}><h2>${t('Decisions')}</h2><${Trouble} error=${error} again=${again} />
    ${study && html`<div class="actions">
      <button onClick=${() => setDeed('correct')}>${t('Correct')}</button>
      <button onClick=${() => setDeed('move')}>${t('Move a series')}</button>
      <button onClick=${() => setDeed('join')}>${t('Join with another study')}</button></div>`}
    ${answer && (answer.length ? html`<${Made} rows=${answer} undo=${undo} />` : html`<p class="empty">${t('Nobody decided anything about this study.')}</p>`)}
    ${deed === 'correct' && html`<${Correct} study=${study} close=${close} done=${done} />`}
    ${deed === 'move' && html`<${Move} study=${study} series=${series} close=${close} done=${done} />`}
    ${deed === 'join' && html`<${Join} study=${study} close=${close} />`}
    ${deed === 'undo' && html`<${Deed} title=${t('Take a decision back')} says=${`${VERBS[row.verb]}: ${row.reason}`} fields=${[REASON]} verb=${t('Take back')} close=${close}
      does=${async ({ reason }) => { await post(`${api}/decisions/${row.decision}/undo`, { reason }); done() }} />`}
  </section>`
}

const Made = ({ rows, undo }) => html`<${Table} label=${t('Decisions')} rows=${rows} keyOf=${(row) => row.decision} empty="" columns=${[
  { head: t('When'), kind: 'nowrap', cell: (row) => moment(row.when / 1000, 'short') },
  { head: t('Who'), cell: (row) => row.who },
  { head: t('What'), cell: (row) => html`${VERBS[row.verb] ?? row.verb}${row.target.includes('/') && html` <small>(${t('a part of it')})</small>`}
    ${Object.entries(row.attributes).map(([keyword, text]) => html`<br /><code>${keyword}</code> ${text || t('(empty)')}`)}
    ${row.to && (row.to === uid ? html`<br />${t('into this study')}` : html`<br /><a href=${link(`/study/${row.to}`)}>${t('into another study')}</a>`)}` },
  { head: t('Reason'), cell: (row) => row.reason },
  { head: '', cell: (row) => row.is_undone ? html`<${State} kind="waiting">${t('taken back')}</${State}>` : row.can_be_undone && html`<button onClick=${() => undo(row)}>${t('Take back')}</button>` },
]} />`

function Correct({ study, close, done }) {
  const fields = CORRECTABLE.map(([name, tag, label]) => ({ name, label, placeholder: whole(study, tag), maxlength: 200,
    ...(name === 'PatientName' ? { hint: t('Family name, given name and more, with ^ between them.') } : {}),
    ...(name.endsWith('Date') ? { pattern: '[0-9]{8}|', hint: t('Year, month, day: YYYYMMDD') } : {}) }))
  return html`<${Deed} title=${t('Correct this study')} says=${t('What is filled in holds at every site, in answers and in all that is sent; what is left empty stays. The stored bytes stay, and this can be taken back.')}
    fields=${[...fields, REASON]} verb=${t('Correct')} close=${close} does=${async ({ reason, ...form }) => {
    const attributes = Object.entries(form).filter(([, text]) => text.trim()).map(([keyword, text]) => `${keyword}=${text.trim()}`)
    if (!attributes.length) throw new Error(t('Fill in what is to be different.'))
    const made = await post(`${api}/studies/${uid}/correct`, { reason, attributes })
    done()
    if (made.warnings.length) throw new Error(`${t('It is corrected.')} ${made.warnings.join(' ')}`)
  }} />`
}

function Move({ study, series, close, done }) {
  const which = { name: 'series', label: t('Series'), options: series.map((each) => [value(each, '0020000E'),
    [value(each, '00200011'), value(each, '0008103E') ?? value(each, '00080060')].filter(Boolean).join(' ')]) }
  const to = { name: 'to', label: t('To the study with this Study Instance UID'), list: 'other-studies', pattern: '[0-9.]*', maxlength: 64, hint: t('Empty: a new study of its own.') }
  return html`<${Others} study=${study} /><${Deed} title=${t('Move a series')} says=${t('It is found and sent as part of the other study. The stored bytes stay, and this can be taken back.')}
    fields=${[which, to, REASON]} verb=${t('Move the series')} close=${close} does=${async ({ series: one, to: into, reason }) => {
    await post(`${api}/series/move`, { series: [one], to: into.trim(), reason })
    done()
  }} />`
}

function Join({ study, close }) {
  const into = { name: 'into', label: t('Into the study with this Study Instance UID'), list: 'other-studies', required: true, pattern: '[0-9.]+', maxlength: 64 }
  return html`<${Others} study=${study} /><${Deed} title=${t('Join with another study')} says=${t('All series of this study are then part of the other one. The stored bytes stay, and each can be taken back there.')}
    fields=${[into, REASON]} verb=${t('Join')} close=${close} does=${async ({ into: other, reason }) => {
    await post(`${api}/studies/${uid}/join`, { into: other.trim(), reason })
    location.assign(link(`/study/${other.trim()}`))
  }} />`
}

/** The patient's other studies, and the newest of all, for whoever does not have a UID at hand. */
function Others({ study }) {
  const { answer } = useAnswer(async () => {
    const id = value(study, '00100020')
    const found = await Promise.all([id ? search(`${dicomweb}/studies?PatientID=${encodeURIComponent(id)}&limit=25`) : [], search(`${dicomweb}/studies?limit=25`)])
    return [...new Map(found.flat().map((each) => [value(each, '0020000D'), each])).values()].filter((each) => value(each, '0020000D') !== uid)
  })
  return html`<datalist id="other-studies">${(answer ?? []).map((each) => html`<option value=${value(each, '0020000D')}>${[person(value(each, '00100010')), identity(value(each, '00100020'), value(each, '00100021')), day(value(each, '00080020')), value(each, '00081030')].filter(Boolean).join(' · ')}</option>`)}</datalist>`
}

/** Return a value with all its component groups, as it is written. */
function whole(study, tag) {
  const first = study?.[tag]?.Value?.[0]
  return typeof first === 'object' ? [first.Alphabetic, first.Ideographic, first.Phonetic].map((group) => group ?? '').join('=').replace(/=+$/, '') : String(first ?? '')
}
