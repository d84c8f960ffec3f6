// Studies: one list over everything this node knows of, with who holds what and which sites answered.

import { api, fetched, get, may } from './api.js'
import { show } from './frame.js'
import { html, link, Progress, Site, State, Table, Trouble, useAnswer, useEffect, useRef, useState } from './parts.js'
import { count, day, identity, person, span, t, told } from './words.js'

const FIELDS = [
  ['PatientName', t('Patient name'), ''],
  ['PatientID', t('Patient ID'), ''],
  ['StudyDate', t('Study date'), t('20260131 or 20260101-')],
  ['ModalitiesInStudy', t('Modality'), 'CT'],
  ['AccessionNumber', t('Accession number'), ''],
  ['StudyDescription', t('Description'), ''],
]
const BEGINNINGS = new Set(['PatientName', 'StudyDescription'])
const SHOWN = ['PatientBirthDate', 'PatientSex', 'IssuerOfPatientID', 'NumberOfStudyRelatedSeries', 'InstanceAvailability']
const STEP = 50
const hasGrid = told.is_in_grid && (told.archive ?? 'main') === 'main'

/** The question stands in the address, with the names that QIDO-RS uses, so that it can be mailed. */
function fromAddress() {
  const params = new URLSearchParams(location.search)
  const keys = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name) ?? '']))
  return { keys, isHere: !hasGrid || params.get('here') === 'true' }
}

function toAddress({ keys, isHere }) {
  const params = new URLSearchParams(Object.entries(keys).filter(([, value]) => value))
  if (hasGrid && isHere) params.set('here', 'true')
  if (told.archive !== 'main') params.set('archive', told.archive)
  const query = params.toString()
  history.replaceState(null, '', query ? `?${query}` : location.pathname)
}

function query({ keys }, limit) {
  const asked = Object.entries(keys).filter(([, value]) => value.trim()).map(([name, value]) => {
    const text = value.trim()
    const isBeginning = BEGINNINGS.has(name) && !/[*?]/.test(text)
    return `${name}=${isBeginning ? (name === 'PatientName' ? `${text}*` : `*${text}*`) : name === 'ModalitiesInStudy' ? text.toUpperCase() : text}`
  })
  return [...asked, ...SHOWN].map((key) => `key=${encodeURIComponent(key)}`).join('&') + `&limit=${limit}`
}

async function look(question, limit, signal) {
  const began = performance.now()
  if (question.isHere) {
    const studies = await get(`${api}/studies?${query(question, limit + 1)}`, { signal })
    return { studies, seconds: (performance.now() - began) / 1000 }
  }
  return get(`/api/grid/studies?${query(question, limit + 1)}`, { signal })
}

function Studies() {
  const [question, setQuestion] = useState(fromAddress)
  const [limit, setLimit] = useState(STEP)
  const typing = useRef()
  const { answer, error, again } = useAnswer((signal) => look(question, limit, signal), [question, limit])
  const ask = (changed) => { const next = { ...question, ...changed }; toAddress(next); setLimit(STEP); setQuestion(next) }
  const type = (name) => (event) => {
    const { value } = event.target
    clearTimeout(typing.current)
    typing.current = setTimeout(() => ask({ keys: { ...question.keys, [name]: value } }), 250)
  }
  const rows = answer?.studies.slice(0, limit) ?? []
  const open = (row) => location.assign(link(`/study/${row.StudyInstanceUID}`))
  return html`
    <form class="filters" role="search" onSubmit=${(event) => { event.preventDefault(); again() }}>
      ${FIELDS.map(([name, label, hint], number) => html`<label class="field ${number > 1 && number < 4 ? 'narrow' : ''}"><span>${label}</span>
        <input name=${name} value=${question.keys[name]} placeholder=${hint} onInput=${type(name)} autocomplete="off" spellcheck=${false} /></label>`)}
      ${hasGrid && html`<span class="choice" role="group" aria-label=${t('Where to look')}>
        <button type="button" aria-pressed=${!question.isHere} onClick=${() => ask({ isHere: false })}>${t('All sites')}</button>
        <button type="button" aria-pressed=${question.isHere} onClick=${() => ask({ isHere: true })}>${t('Here')}</button></span>`}
    </form>
    <${Upload} done=${again} />
    <${Trouble} error=${error} again=${again} />
    ${answer ? html`<${Answered} answer=${answer} isHere=${question.isHere} limit=${limit} />` : !error && html`<${Progress} says=${t('Looking for studies')} />`}
    ${answer && html`<${Table} label=${t('Studies')} rows=${rows} open=${open} keyOf=${(row) => row.StudyInstanceUID}
      columns=${question.isHere ? COLUMNS.filter((column) => !column.isOfGrid) : COLUMNS} empty=${empty(question)} />`}
    ${answer?.studies.length > limit && html`<div class="actions"><button onClick=${() => setLimit(limit + STEP * 2)}>${t('Show more')}</button></div>`}`
}

const empty = ({ keys }) => Object.values(keys).some(Boolean) ? t('No study matches.')
  : t('No studies yet. Send some with C-STORE, or drop DICOM files onto this page.')

/** Which sites answered, how quickly, and how old the copies are that stood in for the others. */
function Answered({ answer, isHere, limit }) {
  const number = Math.min(answer.studies.length, limit)
  const shown = answer.studies.length > limit ? t('The newest {n} of more studies', { n: number }) : t('{n} studies', { n: number })
  if (isHere || !answer.sites) return html`<p class="answered" role="status">${shown} ${t('here')}.</p>`
  const silent = answer.sites.filter((site) => site.is_silent)
  const all = answer.sites.length + 1
  return html`<p class="answered" role="status">${shown}. ${t('{k} of {n} sites answered in {span}.', { k: all - silent.length, n: all, span: span(answer.seconds) })}
    ${silent.map((site) => html` <strong class="state warn">▲ ${site.age === null
      ? t('{site} did not answer, and there is no copy of its catalog here.', { site: site.site })
      : t('{site} did not answer; its studies are from its catalog of {age} ago.', { site: site.site, age: span(site.age) })}</strong>`)}</p>`
}

const AVAILABLE = {
  ONLINE: ['good', t('here')], NEARLINE: ['moving', t('at another site')],
  OFFLINE: ['waiting', t('site not reachable')], UNAVAILABLE: ['bad', t('not available')],
}
const list = (value) => [].concat(value ?? []).filter(Boolean).join(', ')
const COLUMNS = [
  { head: t('Patient'), cell: (row) => html`<a href=${link(`/study/${row.StudyInstanceUID}`)}>${person(row.PatientName) || t('(no name)')}</a>
    
    <span class="aside">${[day(row.PatientBirthDate), row.PatientSex].filter(Boolean).join(' ')}</span><span class="under">${identity(row.PatientID, row.IssuerOfPatientID)}</span>` },
  { head: t('Date'), kind: 'nowrap', cell: (row) => day(row.StudyDate, row.StudyTime) },
  { head: t('Modality'), cell: (row) => list(row.ModalitiesInStudy) },
  { head: t('Description'), cell: (row) => html`${list(row.StudyDescription)}${row.AccessionNumber && html`<span class="under">${row.AccessionNumber}</span>`}` },
  { head: t('Images'), kind: 'number', cell: (row) => html`${row.here === undefined || row.here === row.NumberOfStudyRelatedInstances
    ? count(row.NumberOfStudyRelatedInstances || 0) : `${count(row.here)} / ${count(row.NumberOfStudyRelatedInstances)}`}
    ${row.NumberOfStudyRelatedSeries && html`<span class="under">${t('{n} series', { n: Number(row.NumberOfStudyRelatedSeries) })}</span>`}` },
  { head: t('Sites'), isOfGrid: true, cell: (row) => html`<span class="badges">${(row.sites ?? []).map((site) => html`<${Site} site=${site} />`)}</span>` },
  { head: t('Availability'), kind: 'nowrap', cell: (row) => {
    const [kind, says] = AVAILABLE[row.InstanceAvailability || 'ONLINE'] ?? AVAILABLE.UNAVAILABLE
    return html`<${State} kind=${kind}>${says}</${State}>`
  } },
]

/** Files dropped anywhere onto the page are stored, one after the other, with how far it is. */
function Upload({ done }) {
  const [state, set] = useState()
  useEffect(() => {
    if (!may('store')) return undefined
    const over = (event) => event.preventDefault()
    const drop = async (event) => {
      event.preventDefault()
      const files = [...event.dataTransfer.files]
      const refused = []
      for (const [number, file] of files.entries()) {
        set({ number, of: files.length, refused })
        try { await fetched('POST', `${api}/instances`, { body: file, type: 'application/dicom', accept: 'application/dicom+json' }) } catch (error) {
          refused.push(`${file.name}: ${error.message}`)
        }
      }
      set({ number: files.length, of: files.length, refused })
      done()
    }
    addEventListener('dragover', over)
    addEventListener('drop', drop)
    return () => { removeEventListener('dragover', over); removeEventListener('drop', drop) }
  }, [])
  if (!state) return null
  const says = t('{k} of {n} files stored', { k: state.number - state.refused.length, n: state.of })
  return html`${state.number < state.of ? html`<${Progress} says=${says} share=${state.number / state.of} />` : html`<div class="notice" role="status">${says}
      <button class="small" onClick=${() => set()}>${t('Close')}</button></div>`}
    ${state.refused.map((each) => html`<div class="notice bad">${each}</div>`)}`
}

show(t('Studies'), Studies)
