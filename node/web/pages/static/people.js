// Users: who may log in and as what, and the tokens that programs show in place of a password.

import { ask, get, post } from './api.js'
import { show } from './frame.js'
import { Deed, Dialog, html, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { moment, t, told } from './words.js'

const DAY = 86400
const ROLES = { name: 'grants', label: t('Roles'), required: true, maxlength: 1000,
  hint: t('viewer, sender, researcher or admin; several with spaces; viewer@ARCHIVE for another archive, viewer@* for all.') }
const NOTE = { name: 'note', label: t('Note'), maxlength: 1000 }
const RIGHTS = [['search retrieve', t('find and read')], ['search retrieve store', t('find, read and store')], ['store', t('store only')], ['search', t('find only')], ['watch', t('status and numbers only')]]
const words = (text) => text.split(/[ ,]+/).filter(Boolean)
const path = (user) => `/api/users/${encodeURIComponent(user.name)}`

function People() {
  const { answer, error, again } = useAnswer(async (signal) => {
    const [users, tokens] = await Promise.all([get('/api/users', { signal }), get('/api/tokens', { signal })])
    return { users, tokens }
  }, [], 15)
  const [deed, setDeed] = useState()
  const [secret, setSecret] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Reading who may log in')} />`
  const { users, tokens } = answer
  return html`<${Trouble} error=${error} again=${again} />
    <div class="actions"><h2>${t('Users')}</h2><button onClick=${() => setDeed(admit(setSecret))}>${t('Let somebody in')}</button></div>
    <${Table} label=${t('Users')} rows=${users} keyOf=${(row) => row.name} empty=${t('Nobody may log in yet.')} columns=${[
    { head: t('Name'), kind: 'nowrap', cell: (row) => html`<strong>${row.name}</strong>${row.note && html`<span class="under">${row.note}</span>`}` },
    { head: t('Roles'), cell: (row) => html`<span class="badges">${row.grants.map((grant) => html`<span class="badge tag">${grant}</span>`)}</span>` },
    { head: t('State'), kind: 'nowrap', cell: (row) => row.is_disabled ? html`<${State} kind="bad">${t('may not come')}</${State}>`
      : row.is_one_time ? html`<${State} kind="waiting">${t('has not set a password yet')}</${State}>` : html`<${State} kind="good">${t('may log in')}</${State}>` },
    { head: t('Since'), kind: 'nowrap', cell: (row) => moment(row.made, 'short') },
    { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => setDeed(change(row))}>${t('Edit')}</button>
      ${' '}<button class="small" onClick=${() => setDeed(oneTime(row, setSecret))}>${t('New password')}</button>
      ${row.name !== told.user && html` <button class="small" onClick=${() => setDeed(turn(row))}>${row.is_disabled ? t('Let in again') : t('Keep out')}</button> <button class="small" onClick=${() => setDeed(forget(row))}>${t('Forget')}</button>`}` },
  ]} />
    <div class="actions"><h2>${t('Tokens')}</h2>${users.length > 0 && html`<button onClick=${() => setDeed(make(users, setSecret))}>${t('Make a token')}</button>`}</div>
    <${Table} label=${t('Tokens')} rows=${tokens} keyOf=${(row) => row.id} empty=${t('There is no token. Programs need one to ask this node.')} columns=${[
    { head: t('Token'), kind: 'nowrap', cell: (row) => html`<code>${row.id}</code>${row.note && html`<span class="under">${row.note}</span>`}` },
    { head: t('User'), cell: (row) => row.user },
    { head: t('May'), cell: (row) => html`<span class="badges">${row.rights.map((right) => html`<span class="badge tag">${right}</span>`)}</span><span class="under">${row.archives.join(', ')}</span>` },
    { head: t('Ends'), kind: 'nowrap', cell: (row) => row.ends * 1000 < Date.now() ? html`<${State} kind="bad">${t('has ended')}</${State}>`
      : html`<${State} kind=${row.ends * 1000 - Date.now() < 14 * DAY * 1000 ? 'warn' : 'good'}>${moment(row.ends, 'short')}</${State}>` },
    { head: '', cell: (row) => html`<button class="small" onClick=${() => setDeed(revoke(row))}>${t('Take back')}</button>` },
  ]} />
    ${deed && html`<${Deed} ...${deed} close=${() => { setDeed(); again() }} />`}
    ${secret && html`<${Secret} ...${secret} close=${() => setSecret()} />`}`
}

/** What is told once and kept nowhere. */
function Secret({ title, says, text, close }) {
  return html`<${Dialog} title=${title} close=${close}><p>${says}</p><div class="commands"><pre><code>${text}</code></pre></div>
    <p class="hint">${t('It is shown this once and kept nowhere.')}</p><button onClick=${() => navigator.clipboard?.writeText(text)}>${t('Copy')}</button></${Dialog}>`
}

const password = (user) => ({ title: t('The password of {name}', user), says: t('It is good for one log-in, at which another one is set.'), text: user.one_time_password })
const admit = (setSecret) => ({ title: t('Let somebody in'), verb: t('Let in'), fields: [{ name: 'name', label: t('Name'), required: true, maxlength: 64 }, { ...ROLES, value: 'viewer' }, NOTE],
  does: async (form) => setSecret(password(await post('/api/users', { ...form, grants: words(form.grants) }))) })
const change = (row) => ({ title: row.name, verb: t('Save'), fields: [...(row.name === told.user ? [] : [{ ...ROLES, value: row.grants.join(' ') }]), { ...NOTE, value: row.note }],
  does: (form) => ask('PUT', path(row), { body: { note: form.note, ...(form.grants === undefined ? {} : { grants: words(form.grants) }) } }) })
const oneTime = (row, setSecret) => ({ title: t('New password'), verb: t('Make it'), says: t('The password of {name} does not count any more; a new one is good for one log-in.', row),
  does: async () => setSecret(password(await post(`${path(row)}/one-time`))) })
const turn = (row) => ({ title: row.is_disabled ? t('Let in again') : t('Keep out'), danger: !row.is_disabled, verb: row.is_disabled ? t('Let in again') : t('Keep out'),
  says: row.is_disabled ? t('{name} may log in again with the same roles.', row) : t('{name} may not log in, and the tokens do not count, until you let them in again.', row),
  does: () => ask('PUT', path(row), { body: { is_disabled: !row.is_disabled } }) })
const forget = (row) => ({ title: t('Forget {name}', row), danger: true, verb: t('Forget'), says: t('The user goes with all sessions and tokens. What the audit says of them stays.'), does: () => ask('DELETE', path(row)) })
const make = (users, setSecret) => ({ title: t('Make a token'), verb: t('Make the token'), says: t('Whoever has it may do this in the name of the user, and no more than the user may.'),
  fields: [{ name: 'user', label: t('User'), options: users.map(({ name }) => [name, name]) }, { name: 'rights', label: t('May'), options: RIGHTS },
    { name: 'archives', label: t('In the archives'), value: 'main', required: true, hint: t('Names with spaces between; * for all.') },
    { name: 'days', label: t('Days until it ends'), type: 'number', min: 1, max: 366, value: 90, required: true }, NOTE],
  does: async (form) => {
    const made = await post('/api/tokens', { ...form, rights: words(form.rights), archives: words(form.archives), days: Number(form.days) })
    setSecret({ title: t('The token {id}', made), says: t('Programs send it as: Authorization: Bearer TOKEN'), text: made.token })
  } })
const revoke = (row) => ({ title: t('Take the token {id} back', row), danger: true, verb: t('Take back'), says: t('Whoever uses it is refused from now on.'), does: () => ask('DELETE', `/api/tokens/${encodeURIComponent(row.id)}`) })

show(t('Users'), People)
