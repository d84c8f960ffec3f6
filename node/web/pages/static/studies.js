// Studies: one list over everything this node knows of, with who holds what and which sites answered.

import { api, fetched, get, given, may } from './api.js'
import { show } from './frame.js'
import { html, link, Progress, Site, State, Table, Trouble, useEffect, useRef, useState } from './parts.js'
import { count, day, identity, person, said, span, t, told } from './words.js'

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
/** Seconds until the list is looked at again: the catalog here costs less to ask than all sites. */
const AGAIN = { here: 5, everywhere: 15 }
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

const pathOf = (question, limit) => `${question.isHere ? api : '/api/grid'}/studies?${query(question, limit + 1)}`
const shaped = (answer, began = performance.now()) => Array.isArray(answer)
  ? { studies: answer, seconds: (performance.now() - began) / 1000 } : answer
const uids = (answer) => (answer?.studies ?? []).map((row) => row.StudyInstanceUID).join()
/** Whether somebody is about to choose a row: then no other one may come under the pointer. */
const isPointedAt = () => document.querySelector('tbody tr:hover, tbody tr.at, tbody :focus') !== null

/** The studies that match, asked again every few seconds; what would move the rows in use waits as `arrived`. */
function useStudies(question, limit) {
  const path = pathOf(question, limit)
  const [state, set] = useState(() => { const first = given(path); return first ? { answer: shaped(first), isGiven: true } : {} })
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    let timer
    const stop = new AbortController()
    const step = async (isAgain) => {
      const began = performance.now()
      try {
        const answer = shaped(await get(path, { signal: stop.signal }), began)
        if (!stop.signal.aborted) set((before) => isAgain && isPointedAt() && uids(answer) !== uids(before.answer)
          ? { answer: before.answer, arrived: answer } : { answer })
      } catch (error) {
        if (!stop.signal.aborted) set((before) => ({ ...before, error }))
      }
      if (!stop.signal.aborted) wait()
    }
    const wait = () => { timer = setTimeout(() => (document.hidden ? wait() : step(true)), (question.isHere ? AGAIN.here : AGAIN.everywhere) * 1000) }
    if (state.isGiven && turn === 0) { state.isGiven = false; wait() } else step(false)
    return () => { stop.abort(); clearTimeout(timer) }
  }, [path, turn])
  return { ...state, again: () => setTurn((n) => n + 1), showArrived: () => set({ answer: state.arrived }) }
}

function Studies() {
  const [question, setQuestion] = useState(fromAddress)
  const [limit, setLimit] = useState(STEP)
  const typing = useRef()
  const { answer, error, again, arrived, showArrived } = useStudies(question, limit)
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
        <input name=${name} defaultValue=${question.keys[name]} placeholder=${hint.split(' ')[0]} title=${hint} onInput=${type(name)} autocomplete="off" spellcheck=${false} /></label>`)}
      ${hasGrid && html`<span class="choice" role="group" aria-label=${t('Where to look')}>
        <button type="button" aria-pressed=${!question.isHere} onClick=${() => ask({ isHere: false })}>${t('All sites')}</button>
        <button type="button" aria-pressed=${question.isHere} onClick=${() => ask({ isHere: true })}>${t('Here')}</button></span>`}
    </form>
    <${Upload} done=${again} />
    <${Trouble} error=${error} again=${again} />
    ${answer ? html`<${Answered} answer=${answer} isHere=${question.isHere} limit=${limit}
      arrived=${arrived && html`<button class="small" onClick=${showArrived}>${t('The list has changed: show it')}</button>`} />` : !error && html`<${Progress} says=${t('Looking for studies')} />`}
    ${answer && html`<${Table} label=${t('Studies')} rows=${rows} open=${open} keyOf=${(row) => row.StudyInstanceUID}
      columns=${question.isHere ? COLUMNS.filter((column) => !column.isOfGrid) : COLUMNS} empty=${empty(question)} />`}
    ${answer?.studies.length > limit && html`<div class="actions"><button onClick=${() => setLimit(limit + STEP * 2)}>${t('Show more')}</button></div>`}`
}

const empty = ({ keys }) => Object.values(keys).some(Boolean) ? t('No study matches.')
  : t('No studies yet. Send some with C-STORE, or drop DICOM files onto this page.')

/** Which sites answered, how quickly, and how old the copies are that stood in for the others. */
function Answered({ answer, isHere, limit, arrived }) {
  const number = Math.min(answer.studies.length, limit)
  const shown = answer.studies.length > limit ? t('The newest {n} of more studies', { n: number }) : t('{n} studies', { n: number })
  if (isHere || !answer.sites) return html`<p class="answered" role="status">${shown} ${t('here')}. ${arrived}</p>`
  const silent = answer.sites.filter((site) => site.is_silent)
  const all = answer.sites.length + 1
  return html`<p class="answered" role="status">${shown}. ${t('{k} of {n} sites answered in {span}.', { k: all - silent.length, n: all, span: span(answer.seconds) })} ${arrived}
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
  { head: t('Patient'), cell: (row) => html`<a href=${link(`/study/${row.StudyInstanceUID}`)}>${person(row.PatientName) || t('(no name)')}</a>${' '}
    <span class="aside">${[day(row.PatientBirthDate), row.PatientSex].filter(Boolean).join(' ')}</span><span class="under">${identity(row.PatientID, row.IssuerOfPatientID)}</span>` },
  { head: t('Date'), kind: 'nowrap', cell: (row) => day(row.StudyDate, row.StudyTime) },
  { head: t('Modality'), cell: (row) => list(row.ModalitiesInStudy) },
  { head: t('Description'), cell: (row) => html`${list(row.StudyDescription)}${row.AccessionNumber && html`<span class="under">${row.AccessionNumber}</span>`}` },
  { head: t('Images'), kind: 'number', cell: (row) => html`${count(row.NumberOfStudyRelatedInstances || 0)}<span class="under">${[
    row.NumberOfStudyRelatedSeries && t('{n} series', { n: Number(row.NumberOfStudyRelatedSeries) }),
    row.here > 0 && row.here < row.NumberOfStudyRelatedInstances && t('{k} here', { k: row.here })].filter(Boolean).join(' · ')}</span>` },
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
          refused.push(`${file.name}: ${said(error.message)}`)
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
