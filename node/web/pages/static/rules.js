// Automation: routes, old PACS that are asked too, what is moved in, and copies at other sites.

import { get, post } from './api.js'
import { show } from './frame.js'
import { Deed, html, link, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { bytes, count, said, span, t } from './words.js'

async function look(signal) {
  const names = { routes: 'routes', old: 'old-pacs', moved: 'migrations', copies: 'copies' }
  return Object.fromEntries(await Promise.all(Object.entries(names).map(async ([name, path]) => [name, await get(`/api/${path}`, { signal })])))
}

function Rules() {
  const { answer, error, again } = useAnswer(look, [], 5)
  const [deed, setDeed] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking what goes on by itself')} />`
  return html`<${Trouble} error=${error} again=${again} />
    <h2>${t('Routes: what is sent when a study is complete')}</h2>
    <${Table} label=${t('Routes')} rows=${answer.routes} keyOf=${(row) => row.name} empty=${t('There is no route. They stand in peerpacs.toml, under [[route]].')} columns=${[
    { head: t('Route'), kind: 'nowrap', cell: (row) => html`<strong>${row.name}</strong><span class="under">${row.archive}</span>` },
    { head: t('Studies'), cell: (row) => html`${row.match.join(', ') || t('all')}${row.from.length > 0 && html`<span class="under">${t('from {senders}', { senders: row.from.join(', ') })}</span>`}` },
    { head: t('To'), cell: (row) => html`<code>${row.to}</code>${row.profile && html`<span class="under">${t('de-identified by {profile}', row)}</span>`}` },
    { head: t('Sent'), kind: 'number', cell: (row) => count(row.studies) },
    { head: t('State'), cell: (row) => row.lacking.length ? html`<${State} kind="bad">${t('{n} studies are not whole there', { n: row.lacking.length })}</${State}>
      <span class="under"><a href=${link('/transfers')}>${t('Transfers')}</a></span>` : html`<${State} kind="good">${t('nothing is missing there')}</${State}>` },
    { head: '', cell: (row) => html`<button class="small" onClick=${() => setDeed(send(row))}>${t('Send a study')}</button>` },
  ]} />
    <h2>${t('Moving in: what is fetched from another PACS')}</h2>
    <${Table} label=${t('Moving in')} rows=${answer.moved} keyOf=${(row) => row.source} empty=${t('Nothing is moved in.')} columns=${[
    { head: t('From'), kind: 'nowrap', cell: (row) => html`<strong>${row.source}</strong><span class="under">${row.archive}</span>` },
    { head: t('State'), cell: (row) => html`<${State} kind=${{ done: 'good', stopped: 'bad', paused: 'waiting', cancelled: 'waiting' }[row.phase] ?? 'moving'}>${PHASES[row.phase] ?? row.phase}</${State}>${row.why && html`<span class="under">${said(row.why)} ${said(row.remedy)}</span>`}` },
    { head: t('Days'), kind: 'number', cell: (row) => `${count(row.days_done)} / ${count(row.days)}` },
    { head: t('Images'), kind: 'number', cell: (row) => `${count(row.arrived)} / ${count(row.expected)}` },
    { head: t('Compared'), cell: (row) => row.days_compared > 0 && html`<span class="nowrap">${count(row.compared.missing)} ${t('missing')}</span><br />
      <span class="nowrap">${count(row.compared.different)} ${t('different')}</span><br /><span class="nowrap">${count(row.compared.extra)} ${t('extra')}</span>` },
    { head: '', kind: 'nowrap', cell: (row) => !row.is_over && html`${['paused', 'stopped'].includes(row.phase) ? html`<button class="small" onClick=${() => setDeed(move(row, 'resume', t('Go on')))}>${t('Go on')}</button>`
      : html`<button class="small" onClick=${() => setDeed(move(row, 'pause', t('Pause')))}>${t('Pause')}</button>`} <button class="small" onClick=${() => setDeed({ ...move(row, 'cancel', t('Give it up')), danger: true })}>${t('Give it up')}</button>` },
  ]} />
    <div class="actions"><button onClick=${() => setDeed(begin)}>${t('Move in')}</button></div>
    <h2>${t('Old PACS: asked too, as if they were sites')}</h2>
    <${Table} label=${t('Old PACS')} rows=${answer.old} keyOf=${(row) => row.name} empty=${t('There is none. They stand in peerpacs.toml, under [[old_pacs]].')} columns=${[
    { head: t('Name'), kind: 'nowrap', cell: (row) => html`<strong>${row.name}</strong><span class="under">${row.ae_title}</span>` },
    { head: t('State'), cell: (row) => html`<${State} kind=${row.is_reachable ? 'good' : 'bad'}>${row.is_reachable ? t('answers') : t('does not answer')}</${State}>${row.why && html`<span class="under">${said(row.why)} ${said(row.next)}</span>`}${row.held && html`<span class="under">${row.held}</span>`}` },
    { head: t('Studies'), kind: 'number', cell: (row) => count(row.studies) },
    { head: t('Known whole'), kind: 'nowrap', cell: (row) => html`${row.is_known_whole && row.cut.length === 0 ? t('yes') : t('not yet')}${row.age !== null && html`<span class="under">${t('{span} old', { span: span(row.age) })}</span>`}${row.cut.map((each) => html`<span class="under">${each.day}: ${each.what}</span>`)}` },
    { head: t('Copies kept'), kind: 'number', cell: (row) => bytes(row.copies_bytes) },
    { head: '', cell: (row) => row.held && html`<button class="small" onClick=${() => setDeed(allow(row))}>${t('Forget them')}</button>` },
  ]} />
    <h2>${t('Copies: studies that other sites keep too')}</h2>
    <${Table} label=${t('Copies')} rows=${answer.copies.rules} keyOf=${(row) => row.name} empty=${t('There is no rule: nothing is copied to other sites. Make one with: peerpacs copies add')} columns=${[
    { head: t('Rule'), cell: (row) => html`<strong>${row.name}</strong>` },
    { head: t('Have their copies'), kind: 'number', cell: (row) => count(answer.copies.studies?.[row.name]?.met ?? 0) },
    { head: t('Lack some'), kind: 'number', cell: (row) => { const lacking = answer.copies.studies?.[row.name]?.lacking ?? 0; return lacking ? html`<${State} kind="warn">${count(lacking)}</${State}>` : count(0) } },
  ]} />
    ${Object.entries(answer.copies.reasons ?? {}).map(([why, number]) => html`<p class="hint">${count(number)} × ${said(why)}</p>`)}
    ${deed && html`<${Deed} ...${deed} close=${() => { setDeed(); again() }} />`}`
}

const PHASES = { done: t('done'), paused: t('paused'), cancelled: t('given up'), stopped: t('stopped'), comparing: t('comparing both'), moving: t('being moved in') }
const send = (row) => ({ title: t('Send a study as {name} says', row), verb: t('Send'), fields: [{ name: 'study', label: t('Study Instance UID'), required: true, maxlength: 64 }], does: (form) => post(`/api/routes/${encodeURIComponent(row.name)}/send`, form) })
const move = (row, word, verb) => ({ title: `${verb}: ${row.source}`, verb, does: () => post(`/api/migrations/${encodeURIComponent(row.source)}/${word}`) })
const allow = (row) => ({ title: row.name, danger: true, verb: t('Forget them'), says: t('They were known and are no longer told of. Only if somebody deleted them there on purpose.'), does: () => post(`/api/old-pacs/${encodeURIComponent(row.name)}/allow`) })
const begin = { title: t('Move in'), verb: t('Begin'), says: t('Everything that the other PACS has of these days is fetched, compared, and told apart from what is here.'),
  fields: [{ name: 'source', label: t('AE title of the other PACS'), required: true, maxlength: 16, hint: t('It is in the device book with its port, and may store here.') },
    { name: 'dates', label: t('Days'), required: true, maxlength: 32, placeholder: '2009-' },
    { name: 'hours', label: t('Only in these hours'), maxlength: 100, placeholder: '19-06' },
    { name: 'rate', label: t('Not faster than'), maxlength: 32, placeholder: '200/min' }],
  does: (form) => post('/api/migrations', form) }

show(t('Automation'), Rules)
