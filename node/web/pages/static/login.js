// Logging in, and the first password of one's own.

import { html, render } from './preact.js'
import { ask } from './api.js'
import { Field, Trouble, useState } from './parts.js'
import { t, told } from './words.js'

const SHORTEST = 12

const COMMAND = `curl -c cookies -H 'Content-Type: application/json' -d '{"name": "NAME", "password": "PASSWORD"}' '${location.origin}/api/session'`

function wanted() {
  const next = new URLSearchParams(location.search).get('next') ?? '/'
  // Only to a place of this node: what begins with two slashes is another one.
  return /^\/(?![/\\])/.test(next) ? next : '/'
}

function Login() {
  const [error, setError] = useState()
  const [isBusy, setBusy] = useState(false)
  const [old, setOld] = useState('')
  const [isOneTime, setOneTime] = useState(told.is_one_time ?? false)
  const send = (does) => async (event) => {
    event.preventDefault()
    setBusy(true)
    setError()
    try { await does(Object.fromEntries(new FormData(event.target))) } catch (trouble) { setError(trouble) }
    setBusy(false)
  }
  const logIn = send(async ({ name, password }) => {
    const session = await ask('POST', '/api/session', { body: { name, password } })
    told.csrf = session.csrf
    if (!session.is_one_time) return location.replace(wanted())
    setOld(password)
    setOneTime(true)
  })
  const setPassword = send(async (form) => {
    if (form.password.length < SHORTEST) throw new Error(t('At least {n} characters, please.', { n: SHORTEST }))
    if (form.password !== form.again) throw new Error(t('The two passwords differ.'))
    await ask('PUT', '/api/session/password', { body: { old: old || form.old, new: form.password } })
    location.replace(wanted())
  })
  return html`<main class="login" id="main"><h1>${told.node}</h1><p class="hint">PeerPACS</p>
    ${isOneTime ? html`<form onSubmit=${setPassword}>
      <p>${t('Your password is good for once. Set one of your own to go on.')}</p>
      ${!old && html`<${Field} label=${t('One-time password')} name="old" type="password" autocomplete="current-password" required autofocus />`}
      <${Field} label=${t('New password')} name="password" type="password" autocomplete="new-password" required autofocus
        hint=${t('At least {n} characters; a few words are easy to remember.', { n: SHORTEST })} />
      <${Field} label=${t('Once more')} name="again" type="password" autocomplete="new-password" required />
      <${Trouble} error=${error} />
      <button class="main" disabled=${isBusy}>${t('Set the password')}</button></form>`
    : html`<form onSubmit=${logIn}>
      <${Field} label=${t('Name')} name="name" autocomplete="username" required autofocus />
      <${Field} label=${t('Password')} name="password" type="password" autocomplete="current-password" required />
      <${Trouble} error=${error} />
      <button class="main" disabled=${isBusy}>${t('Log in')}</button>
      ${told.has_provider && html`<p><a href="/api/session/oidc">${t('Log in with an account of the hospital')}</a></p>`}
      <p class="hint">${t('The first time, use the name admin and the one-time password that "peerpacs init" showed.')}</p>
    </form>`}
    <details><summary>${t('as API')}</summary><div class="commands"><pre><code>${COMMAND}</code></pre></div>
      <p class="hint">${t('Programs need no session: a token from "peerpacs tokens make" goes with each request.')}</p></details></main>`
}

document.title = `${t('Log in')} · ${told.node} · PeerPACS`
const place = document.getElementById('page')
place.replaceChildren()
render(html`<${Login} />`, place)
