// Retention: how long studies are kept, and what would go by the rules.

import { api, ask, get, post } from './api.js'
import { show } from './frame.js'
import { Deed, html, link, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { count, moment, t } from './words.js'

function Retention() {
  const { answer, error, again } = useAnswer(async (signal) => {
    const [kept, names] = await Promise.all([get(`${api}/retention`, { signal }), get(`${api}/dictionary`, { signal })])
    return { ...kept, names }
  })
  const [deed, setDeed] = useState()
  const [plan, setPlan] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Reading the rules')} />`
  const close = () => { setDeed(); setPlan(); again() }
  return html`<${Trouble} error=${error} again=${again} />
    ${answer.clock && html`<div class="notice bad" role="alert">${t('No rule works now:')} ${answer.clock}
      <button onClick=${() => setDeed(believe(answer.clock))}>${t('The clock is right')}</button></div>`}
    <p>${t('A study that no rule matches is kept for good. Of several rules the longest counts, and a legal hold beats them all.')}</p>
    <div class="actions"><button onClick=${() => setDeed(rule())}>${t('Make a rule')}</button></div>
    <${Table} label=${t('Rules')} rows=${answer.rules} keyOf=${(row) => row.name} empty=${t('There is no rule: everything is kept.')} columns=${[
    { head: t('Rule'), kind: 'nowrap', cell: (row) => html`<strong>${row.name}</strong><span class="under">${row.who} ${row.when > 0 && moment(row.when / 1000, 'short')}</span>` },
    { head: t('Studies'), cell: (row) => matches(row, answer.names) || t('all') },
    { head: t('Kept for'), cell: (row) => html`${t('{n} years', { n: row.years })}<span class="under">${row.basis === 'study' ? t('from the day of the study') : t('from the last time it was fetched')}${row.until_age > 0 && `; ${t('until the patient is {n} years old', { n: row.until_age })}`}</span>` },
    { head: t('State'), kind: 'nowrap', cell: (row) => row.is_active ? html`<${State} kind="good">${t('works')}</${State}>` : html`<${State} kind="waiting">${t('not activated')}</${State}>` },
    { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => setPlan(row.name)}>${t('What would go')}</button>
      ${!row.is_active && html` <button class="small" onClick=${() => setDeed(activate(row))}>${t('Activate')}</button>`} <button class="small" onClick=${() => setDeed(remove(row))}>${t('Remove')}</button>` },
  ]} />
    ${plan && html`<${Plan} key=${plan} name=${plan} />`}
    ${deed && html`<${Deed} ...${deed} close=${close} />`}`
}

const matches = (row, names) => Object.entries(row.match).map(([tag, key]) => `${names[tag] ?? tag} = ${(key.Value ?? []).map((value) => value?.Alphabetic ?? value).join(' \\ ')}`).join(', ')

/** What is due by the rules that work and by this one; nothing goes because somebody looks. */
function Plan({ name }) {
  const { answer, error } = useAnswer((signal) => get(`${api}/retention-plan?name=${encodeURIComponent(name)}`, { signal }), [name])
  if (!answer) return error ? html`<${Trouble} error=${error} />` : html`<${Progress} says=${t('Counting what is due')} />`
  return html`<section class="card"><h2>${t('What would go')}</h2><p class="hint">${t('Nothing is done. At most {n} studies go today.', { n: answer.left_today })}</p>
    <ul>${Object.entries(answer.rules).map(([rule, told]) => html`<li><strong>${rule}</strong>: ${t('{n} studies', { n: told.due })}${told.held > 0 && `; ${t('{k} more are kept by a legal hold', { k: told.held })}`}${told.undated > 0 && `; ${t('{k} more are kept because a date is not known', { k: told.undated })}`}
      ${told.examples.map(({ StudyInstanceUID: uid, until }) => html`<br /><a href=${link(`/study/${uid}`)}><code>${uid}</code></a> ${t('since {day}', { day: until })}`)}</li>`)}</ul></section>`
}

const rule = () => ({ title: t('Make a rule'), verb: t('Make it'), says: t('It lets nothing go before it is activated.'),
  fields: [{ name: 'name', label: t('Name'), required: true, maxlength: 64 },
    { name: 'keys', label: t('Which studies'), maxlength: 1000, hint: t('Keyword=Value with spaces between, as in ModalitiesInStudy=CT; empty for all.') },
    { name: 'years', label: t('Years to keep them'), type: 'number', min: 1, max: 1000, step: 'any', value: 10, required: true },
    { name: 'basis', label: t('Counted'), options: [['study', t('from the day of the study')], ['access', t('from the last time it was fetched')]] },
    { name: 'until_age', label: t('And until the patient is so many years old'), type: 'number', min: 0, max: 150, value: 0 }],
  does: ({ name, keys, years, basis, until_age: age }) => ask('PUT', `${api}/retention/${encodeURIComponent(name)}`, { body: { keys: keys.split(/ +/).filter(Boolean), years: Number(years), basis, until_age: Number(age) } }) })
const activate = (row) => ({ title: t('Activate {name}', row), danger: true, verb: t('Activate'), says: t('From today on, studies that are due by it are hidden and, after the time in which that can be taken back, deleted.'), does: () => post(`${api}/retention/${encodeURIComponent(row.name)}/activate`) })
const remove = (row) => ({ title: t('Remove {name}', row), verb: t('Remove'), says: t('Studies that only this rule matches are kept for good from now on; what only this rule kept goes by the other rules.'), does: () => ask('DELETE', `${api}/retention/${encodeURIComponent(row.name)}`) })
const believe = (why) => ({ title: t('The clock is right'), danger: true, verb: t('It is right'), says: html`${why} ${t('Compare it with a clock that you trust. If it is wrong, what is due by it is deleted too early, and cannot be brought back.')}`, does: () => post(`${api}/retention-clock`) })

show(t('Retention'), Retention)
