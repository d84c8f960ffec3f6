// Transfers: the queue as Figure 4 of the cloud PACS paper shows it, a row for each study and a cell for each series.
// Green is whole at its destination, orange is moving, gray is waiting, red failed; PP is the highest priority.

import { api, get, may, post } from './api.js'
import { show } from './frame.js'
import { html, link, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { bytes, count, day, moment, person, said, span, t } from './words.js'

const LANES = { now: 'PP', normal: 'P', bulk: 'L' }
const WORDS = { waiting: t('waiting'), running: t('moving'), done: t('done'), failed: t('failed'), paused: t('paused'), cancelled: t('cancelled') }
const KINDS = { waiting: 'waiting', running: 'moving', done: 'good', failed: 'bad', paused: 'waiting', cancelled: 'waiting' }
const SHOWN = 100
const known = new Map()

/** The newest transfers first, those that are under way or in trouble before those that are over. */
async function look({ isOver }, signal) {
  const found = await get(`${api}/transfers?over=${isOver}`, { signal })
  const rank = { running: 0, failed: 1, waiting: 2, paused: 3, done: 4, cancelled: 5 }
  found.sort((one, other) => rank[one.standing] - rank[other.standing] || other.created - one.created)
  const counts = {}
  for (const { standing } of found) counts[standing] = (counts[standing] ?? 0) + 1
  const rows = found.slice(0, SHOWN)
  const uids = [...new Set(rows.map((row) => row.StudyInstanceUID))].filter((uid) => !known.has(uid))
  if (may('search') && uids.length) {
    for (const uid of uids) known.set(uid, undefined)
    const key = encodeURIComponent(`StudyInstanceUID=${uids.join('\\')}`)
    for (const study of await get(`${api}/studies?limit=${SHOWN}&key=${key}`, { signal })) known.set(study.StudyInstanceUID, study)
  }
  return { rows: rows.map((row) => ({ ...row, study: known.get(row.StudyInstanceUID) })), counts, isMore: found.length > SHOWN }
}

function Transfers() {
  const [isOver, setOver] = useState(true)
  const [trouble, setTrouble] = useState()
  const { answer, error, again } = useAnswer((signal) => look({ isOver }, signal), [isOver], 2)
  const does = (row, word, body) => async () => {
    setTrouble()
    try { await post(`${api}/transfers/${row.id}/${word}`, body) } catch (problem) { setTrouble(problem) }
    again()
  }
  const columns = [
    { head: t('Study'), kind: 'whose', cell: (row) => html`<a href=${link(`/study/${row.StudyInstanceUID}`)}>${row.study ? person(row.study.PatientName) : row.StudyInstanceUID}</a>
      ${row.study && html`<span class="under">${[row.study.PatientID, day(row.study.StudyDate), [].concat(row.study.ModalitiesInStudy ?? []).join(', ')].filter(Boolean).join(' · ')}</span>`}` },
    { head: t('Series'), cell: (row) => html`<${Cells} row=${row} />` },
    { head: 'PP', cell: (row) => html`<span class="pp ${row.lane}" title=${row.lane}>${LANES[row.lane] ?? row.lane}</span>` },
    { head: t('To'), kind: 'nowrap', cell: (row) => html`${row.destination}<span class="under">${row.who}</span>` },
    { head: t('State'), kind: 'says', cell: (row) => html`<${State} kind=${row.is_stuck ? 'bad' : KINDS[row.standing]}>${WORDS[row.standing] ?? row.standing}</${State}>
      <span class="under">${said(row.says.replace(/^(waiting|failed): /, ''))}${row.next && row.why ? `. ${said(row.next)}` : ''}</span>` },
    { head: t('Images'), kind: 'number', cell: (row) => html`${row.planned > 0 ? `${count(row.done)} / ${count(row.planned)}` : '–'}${row.bytes > 0 && html`<span class="under">${bytes(row.bytes)}</span>`}` },
    { head: t('Time'), kind: 'nowrap', cell: (row) => html`${moment(row.created, 'short')}<span class="under">${timing(row)}</span>` },
    { head: '', kind: 'deeds', cell: (row) => html`<${Deeds} row=${row} does=${does} />` },
  ]
  return html`
    <div class="filters"><span class="choice" role="group" aria-label=${t('Which transfers')}>
      <button aria-pressed=${isOver} onClick=${() => setOver(true)}>${t('All')}</button>
      <button aria-pressed=${!isOver} onClick=${() => setOver(false)}>${t('Not done yet')}</button></span>
      ${answer && html`<button onClick=${() => save(answer.rows)}>CSV</button>`}</div>
    <${Trouble} error=${error ?? trouble} again=${again} />
    ${answer && html`<p class="answered" role="status">${Object.entries(answer.counts).map(([standing, n]) => `${count(n)} ${WORDS[standing] ?? standing}`).join(', ')}${answer.isMore ? ` · ${t('the first {n} are shown', { n: SHOWN })}` : ''}</p>`}
    <ul class="legend"><li><span class="cell good">✓</span> ${t('whole at the destination')}</li><li><span class="cell"><span class="fill half"></span></span> ${t('moving')}</li>
      <li><span class="cell"></span> ${t('waiting')}</li><li><span class="cell bad">✕</span> ${t('failed')}</li>
      <li><span class="pp now">PP</span> ${t('now')}, <span class="pp">P</span> ${t('normal')}, <span class="pp">L</span> ${t('when there is time')}</li></ul>
    ${answer ? html`<${Table} label=${t('Transfers')} rows=${answer.rows} columns=${columns} empty=${t('Nothing is sent, and nothing waits to be sent.')} />`
      : !error && html`<${Progress} says=${t('Looking at the queue')} />`}`
}

function timing(row) {
  if (row.started && row.ended) {
    const took = Math.max(row.ended - row.started, 0.001)
    return row.bytes ? `${span(took)} · ${bytes(row.bytes / took)}/s` : span(took)
  }
  return ''
}

/** A cell for each series; a study of one order without plan yet has one that waits. */
function Cells({ row }) {
  const series = row.series?.length ? row.series : [{ planned: 0, done: 0, failed: 0 }]
  return html`<span class="cells">${series.slice(0, 40).map((each) => html`<${Cell} each=${each} row=${row} />`)}${series.length > 40 ? `+${series.length - 40}` : ''}</span>`
}

function Cell({ each: { planned, done, failed }, row }) {
  const says = `${count(done)} / ${count(planned)}${failed ? `, ${t('{n} failed', { n: failed })}` : ''}`
  if (failed) return html`<span class="cell bad" title=${says} role="img" aria-label=${says}>✕</span>`
  if (planned && done === planned) return html`<span class="cell good" title=${says} role="img" aria-label=${says}>✓</span>`
  const share = row.standing === 'running' && planned ? Math.max(done / planned, 0.12) : planned ? done / planned : 0
  return html`<span class="cell" title=${says} role="img" aria-label=${says}><span class="fill" style=${{ width: `${100 * share}%` }}></span></span>`
}

function Deeds({ row, does }) {
  const button = (says, word, body) => html`<button class="small" onClick=${does(row, word, body)}>${says}</button> `
  if (['done', 'cancelled'].includes(row.standing)) return null
  return html`${row.lane !== 'now' && row.standing !== 'failed' && button(t('To PP'), 'raise', { lane: 'now' })}
    ${row.failed > 0 || row.standing === 'failed' ? button(t('Retry failed'), 'retry') : ''}
    ${row.standing === 'paused' ? button(t('Go on'), 'resume') : row.standing !== 'failed' ? button(t('Pause'), 'pause') : ''}
    ${button(t('Cancel'), 'cancel')}`
}

function save(rows) {
  const names = ['id', 'StudyInstanceUID', 'destination', 'lane', 'standing', 'who', 'planned', 'done', 'failed', 'bytes', 'says']
  const quoted = (value) => `"${String(value ?? '').replaceAll('"', '""')}"`
  const text = [names.join(','), ...rows.map((row) => names.map((name) => quoted(row[name])).join(','))].join('\r\n')
  const anchor = document.createElement('a')
  anchor.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }))
  anchor.download = 'transfers.csv'
  anchor.click()
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000)
}

show(t('Transfers'), Transfers)
