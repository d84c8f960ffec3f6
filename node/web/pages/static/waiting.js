// Needs a person: everything that goes no further until somebody decides, with how long it has waited.

import { api, ask, get, may, post } from './api.js'
import { show } from './frame.js'
import { Deed, html, link, Progress, REASON, Table, Trouble, useAnswer, useState } from './parts.js'
import { bytes, count, moment, said, span, t, told } from './words.js'

const isMain = (told.archive ?? 'main') === 'main'
/** What is told in milliseconds since 1970 is as good as what is told in seconds. */
const age = (since) => t('since {span}', { span: span(Math.max(1, Date.now() / 1000 - (since > 1e11 ? since / 1000 : since))) })

async function look(signal) {
  const asked = {
    held: get(`${api}/held`, { signal }),
    rejected: get(`${api}/rejected`, { signal }),
    conflicts: get(`${api}/conflicts`, { signal }),
    grid: told.is_in_grid && isMain ? get('/api/grid/conflicts', { signal }) : [],
    requests: told.is_in_grid && isMain && may('manage') ? get('/api/peer-requests', { signal }) : [],
  }
  return Object.fromEntries(await Promise.all(Object.entries(asked).map(async ([name, answer]) => [name, await answer])))
}

function Waiting() {
  const { answer, error, again } = useAnswer(look, [], 10)
  const [deed, setDeed] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking what waits')} />`
  const close = () => { setDeed(); again() }
  const total = Object.values(answer).reduce((sum, rows) => sum + rows.length, 0)
  return html`<${Trouble} error=${error} again=${again} />
    ${!total && html`<p class="empty">${t('Nothing waits for a person.')}</p>`}
    ${answer.requests.length > 0 && html`<h2>${t('Asks to join the grid')}</h2>${answer.requests.map((request) => html`<div class="notice">${t('{name} of {site} asks to join.', request)} <a href="/peers">${t('Peers')}</a></div>`)}`}
    <${Part} title=${t('Held: stored by senders nobody allowed')} rows=${answer.held} keyOf=${(row) => row.source + row.StudyInstanceUID} columns=${[
    { head: t('From'), cell: (row) => row.source },
    { head: t('Study'), cell: (row) => html`<code>${row.StudyInstanceUID}</code>` },
    { head: t('Images'), kind: 'number', cell: (row) => count(row.instances) },
    { head: t('Size'), kind: 'number', cell: (row) => bytes(row.bytes) },
    { head: t('Waits'), kind: 'nowrap', cell: (row) => age(row.since) },
    { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => setDeed(release(row))}>${t('Release')}</button> <button class="small" onClick=${() => setDeed(discard(row))}>${t('Throw away')}</button>` },
  ]} />
    <${Part} title=${t('Rejected: data sets that could not be taken')} rows=${answer.rejected} keyOf=${(row) => row.name} columns=${[
    { head: t('From'), cell: (row) => row.source },
    { head: t('Why'), cell: (row) => html`${said(row.why)}<span class="under"><code>${row.SOPInstanceUID}</code></span>` },
    { head: t('Size'), kind: 'number', cell: (row) => bytes(row.size) },
    { head: t('Waits'), kind: 'nowrap', cell: (row) => age(row.when) },
    { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => setDeed(retake(row))}>${t('Take it in after all')}</button> <button class="small" onClick=${() => setDeed(throwAway(row))}>${t('Delete')}</button>` },
  ]} />
    <${Part} title=${t('In conflict: one UID, other bytes')} rows=${answer.conflicts} keyOf=${(row) => row.SOPInstanceUID} columns=${[
    { head: t('Instance'), cell: (row) => html`<code>${row.SOPInstanceUID}</code><span class="under"><a href=${link(`/study/${row.StudyInstanceUID}`)}>${t('Study')}</a></span>` },
    { head: t('They differ in'), cell: (row) => row.differences.join(', ') },
    { head: t('Waits'), kind: 'nowrap', cell: (row) => age(row.since) },
    { head: '', cell: (row) => html`<button class="small" onClick=${() => setDeed(prefer(row))}>${t('Choose')}</button>` },
  ]} />
    <${Part} title=${t('Studies about which sites do not agree')} rows=${answer.grid} keyOf=${(row) => row.StudyInstanceUID} columns=${[
    { head: t('Study'), cell: (row) => html`<a href=${link(`/study/${row.StudyInstanceUID}`)}><code>${row.StudyInstanceUID}</code></a>` },
    { head: t('Sites'), cell: (row) => row.names.join(', ') },
    { head: t('Why'), cell: (row) => row.instances.length ? t('{n} images with other bytes', { n: row.instances.length }) : t('each says that it is of another patient') },
    { head: t('Waits'), kind: 'nowrap', cell: (row) => age(row.since) },
  ]} />
    ${deed && html`<${Deed} ...${deed} close=${close} />`}`
}

function Part({ title, rows, columns, keyOf }) {
  return rows.length ? html`<h2>${title}</h2><${Table} label=${title} rows=${rows} columns=${columns} keyOf=${keyOf} />` : null
}

const release = (row) => ({ title: t('Release'), says: t('Everything that {source} stored of this study goes into the archive.', row), fields: [REASON], verb: t('Release'),
  does: ({ reason }) => post(`${api}/held/release`, { source: row.source, study: row.StudyInstanceUID, reason }) })
const discard = (row) => ({ title: t('Throw away'), says: t('What {source} stored of this study is deleted for good. This cannot be taken back.', row), fields: [REASON], verb: t('Throw away'), danger: true,
  does: ({ reason }) => post(`${api}/held/discard`, { source: row.source, study: row.StudyInstanceUID, reason }) })
const retake = (row) => ({ title: t('Take it in after all'), says: said(row.why), verb: t('Take it in after all'), does: () => post(`${api}/rejected/${row.name}/retake`) })
const throwAway = (row) => ({ title: t('Delete'), says: t('This cannot be taken back.'), verb: t('Delete'), danger: true, does: () => ask('DELETE', `${api}/rejected/${row.name}`) })
const prefer = (row) => ({ title: t('Which version counts?'), says: t('The other one is kept, but neither found nor sent.'), verb: t('Prefer it'),
  fields: [{ name: 'sha256', label: t('Version'), options: row.versions.map((version) => [version.sha256, `${version.sha256.slice(0, 12)} · ${version.source ?? ''} · ${moment((version.received ?? 0) / 1000, 'short')}`]) }, REASON],
  does: (form) => post(`${api}/conflicts/${row.SOPInstanceUID}/prefer`, form) })

show(t('Needs a person'), Waiting)
