// Audit: who did what, from where and how it ended, newest first; and whether the record is whole.

import { get } from './api.js'
import { show } from './frame.js'
import { Facts, html, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { count, moment, t } from './words.js'

const EVENTS = ['access', 'association', 'change', 'commit', 'complete', 'decision', 'export', 'find', 'forward', 'get', 'login', 'move', 'objects', 'refusal', 'retrieve', 'store', 'transfer']
const LIMIT = 200

function Audit() {
  const [wanted, want] = useState({ word: '', event: '', user: '' })
  const query = Object.entries(wanted).filter(([, value]) => value).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')
  const { answer, error, again } = useAnswer((signal) => get(`/api/audit?newest=true&limit=${LIMIT}${query && `&${query}`}`, { signal }), [query])
  const [checked, check] = useState()
  const verify = async () => {
    check({ isBusy: true })
    try { check(await get('/api/audit/verification')) } catch (trouble) { check({ error: trouble }) }
  }
  const submit = (event) => { event.preventDefault(); want(Object.fromEntries(new FormData(event.target))) }
  return html`<form class="filters" role="search" onSubmit=${submit}>
      <label class="field"><span>${t('Contains')}</span><input name="word" type="search" /></label>
      <label class="field"><span>${t('Event')}</span><select name="event"><option value="">${t('every')}</option>${EVENTS.map((event) => html`<option>${event}</option>`)}</select></label>
      <label class="field"><span>${t('User')}</span><input name="user" /></label>
      <button>${t('Search')}</button><button type="button" onClick=${verify}>${t('Check the chain')}</button></form>
    ${checked?.isBusy && html`<${Progress} says=${t('Reading every line of the record')} />`}
    ${checked?.error && html`<${Trouble} error=${checked.error} />`}
    ${checked?.lines !== undefined && html`<div class="notice ${checked.breaks.length ? 'bad' : ''}" role="status">${checked.breaks.length
      ? html`<${State} kind="bad">${t('The record was changed or cut at {n} places', { n: checked.breaks.length })}</${State}>${checked.breaks.slice(0, 5).map((each) => html`<span>${each.file}:${each.line} ${each.why}</span>`)}`
      : html`<${State} kind="good">${t('{n} lines, nothing changed or missing', { n: checked.lines })}</${State}>`} <code>${checked.last}</code></div>`}
    <${Trouble} error=${error} again=${again} />
    ${answer ? html`<${Table} label=${t('Audit')} rows=${answer} keyOf=${(row) => row.sequence} empty=${t('No line matches.')} columns=${COLUMNS} />`
      : !error && html`<${Progress} says=${t('Reading the record')} />`}`
}

const COLUMNS = [
  { head: '№', kind: 'number', cell: (row) => count(row.sequence) },
  { head: t('Time'), kind: 'nowrap', cell: (row) => moment(Date.parse(row.time) / 1000) },
  { head: t('Who'), kind: 'nowrap', cell: (row) => html`${row.user || row.ae || row.detail?.who || t('this node')}<span class="under">${row.address}</span>` },
  { head: t('Event'), kind: 'nowrap', cell: (row) => row.event },
  { head: t('Outcome'), cell: (row) => html`<${State} kind=${/^(ok|success)/.test(row.outcome) ? 'good' : /refused|fail/.test(row.outcome) ? 'bad' : 'waiting'}>${row.outcome}</${State}>` },
  { head: t('What'), cell: (row) => html`<details><summary>${row.detail?.what ?? row.detail?.service ?? row.called ?? t('more')}</summary><${Facts} rows=${Object.entries(row.detail ?? {}).map(([name, value]) => [name, html`<code>${typeof value === 'string' ? value : JSON.stringify(value)}</code>`])} /></details>` },
]

show(t('Audit'), Audit)
