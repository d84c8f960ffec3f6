// The frame around every page: whose node this is, where one can go, and the page's requests as API.

import { html, render, useEffect, useState } from './preact.js'
import { asked, fetched, may, onAsked } from './api.js'
import { Dialog, Trouble, link } from './parts.js'
import { t, told } from './words.js'

const PLACES = [
  ['/', 'studies', t('Studies'), 'search'],
  ['/transfers', 'transfers', t('Transfers'), 'transfer'],
  ['/waiting', 'waiting', t('Needs a person'), 'decide'],
  ['/traffic', 'traffic', t('Traffic'), 'search'],
  ['/research', 'research', t('Research'), 'research'],
  ['/sites', 'sites', t('Sites'), 'manage'],
  ['/peers', 'peers', t('Peers'), 'manage'],
  ['/devices', 'devices', t('Devices'), 'manage'],
  ['/rules', 'rules', t('Automation'), 'manage'],
  ['/users', 'people', t('Users'), 'manage'],
  ['/imports', 'imports', t('Imports'), 'manage'],
  ['/retention', 'retention', t('Retention'), 'decide'],
  ['/audit', 'audit', t('Audit'), 'audit'],
]

/** Draw a page: its title, and a component for what is on it. */
export function show(title, Page, { isWide = false } = {}) {
  document.title = `${title} · ${told.node} · PeerPACS`
  const stripe = [...told.node].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7)
  document.documentElement.style.setProperty('--stripe', stripe)
  const place = document.getElementById('page')
  place.replaceChildren()
  render(html`<${Frame} title=${title} isWide=${isWide}><${Page} /></${Frame}>`, place)
}

function Frame({ title, isWide, children }) {
  const [dialog, setDialog] = useState('')
  useEffect(() => {
    const hear = (event) => {
      if (event.target.closest('input, select, textarea, dialog') || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.key === '/') { event.preventDefault(); document.querySelector('main input')?.focus() }
      if (event.key === '?') setDialog('keys')
    }
    addEventListener('keydown', hear)
    // Where they are one line, that of this page is to be seen. scrollIntoView would have Tab begin there.
    const here = document.querySelector('.places [aria-current]')
    if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2
    return () => removeEventListener('keydown', hear)
  }, [])
  return html`
    <a class="skip" href="#main">${t('To the content')}</a>
    <header class="top"><a class="brand" href=${link('/')}><span class="stripe"></span>
      <strong>${told.node}</strong>${told.ae_title && html`<code>${told.ae_title}</code>`}</a>
      <${Archives} />
      <div class="spring"></div>
      <button class="quiet" onClick=${() => setDialog('api')}>${t('as API')}</button>
      <${Look} /><${Language} /><${Who} /></header>
    <nav class="places" aria-label=${t('Pages')}>${PLACES.filter(([, , , right]) => may(right)).map(([path, page, name]) =>
      html`<a href=${link(path)} aria-current=${page === told.page ? 'page' : undefined}>${name}</a>`)}
      <a href="/help" aria-current=${told.page === 'help' ? 'page' : undefined}>${t('Help')}</a></nav>
    <main id="main" class=${isWide ? 'wide' : ''} tabindex="-1"><h1>${title}</h1>${children}</main>
    ${dialog === 'api' && html`<${AsApi} close=${() => setDialog('')} />`}
    ${dialog === 'keys' && html`<${Keys} close=${() => setDialog('')} />`}`
}

function Archives() {
  if ((told.archives ?? []).length < 2) return null
  const go = (event) => location.assign(event.target.value === 'main' ? '/' : `/?archive=${event.target.value}`)
  return html`<label class="inline">${t('Archive')} <select onChange=${go}>${told.archives.map((name) =>
    html`<option selected=${name === told.archive}>${name}</option>`)}</select></label>`
}

const keep = (name, value) => { document.cookie = `${name}=${value}; path=/; max-age=31536000; SameSite=Strict` }

function Look() {
  const [look, setLook] = useState(document.documentElement.dataset.look)
  const next = { auto: 'light', light: 'dark', dark: 'auto' }[look]
  const turn = () => { keep('look', next); document.documentElement.dataset.look = next; setLook(next) }
  const says = { auto: t('Light or dark as the system'), light: t('Light'), dark: t('Dark') }[look]
  return html`<button class="quiet" onClick=${turn} title=${says} aria-label=${`${t('Look')}: ${says}`}>${{ auto: '◐', light: '○', dark: '●' }[look]}</button>`
}

function Language() {
  const other = told.language === 'en' ? 'cs' : 'en'
  const turn = () => { keep('language', other); location.reload() }
  return html`<button class="quiet" lang=${other} onClick=${turn}>${other === 'cs' ? 'Česky' : 'English'}</button>`
}

function Who() {
  if (!told.user) return html`<span class="who">${t('somebody on this machine')}</span>`
  const leave = async () => { await fetched('DELETE', '/api/session'); location.assign('/login') }
  return html`<span class="who">${told.user}</span><button class="quiet" onClick=${leave}>${t('Log out')}</button>`
}

/** What a page that asked nothing shows: where all that can be asked is described. */
const NOTHING_ASKED = { method: 'GET', path: '/openapi.json', accept: 'application/json' }

function AsApi({ close }) {
  const [, again] = useState(0)
  useEffect(() => onAsked(() => again((n) => n + 1)), [])
  const host = location.origin
  return html`<${Dialog} title=${t('as API')} close=${close}>
    <p>${t('What this page asked, newest first. With a token from "peerpacs tokens make" it works anywhere.')}
      <a href="/openapi.json">/openapi.json</a></p>
    <div class="commands">${[...(asked.size ? asked.values() : [NOTHING_ASKED])].reverse().map(({ method, path, accept, body }) => html`<pre><code>${
      `curl -H "Authorization: Bearer $TOKEN"${method === 'GET' ? '' : ` -X ${method}`}${accept === 'application/json' ? '' : ` -H 'Accept: ${accept}'`}${
        body ? ` -H 'Content-Type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'` : ''} '${host}${path}'`}</code></pre>`)}</div>
  </${Dialog}>`
}

function Keys({ close }) {
  const keys = [['/', t('to the first field')], ['j k', t('next and previous row')], ['o', t('open the row')], ['?', t('this list')]]
  return html`<${Dialog} title=${t('Keys')} close=${close}><dl class="facts">${keys.map(([key, does]) =>
    html`<dt><kbd>${key}</kbd></dt><dd>${does}</dd>`)}</dl></${Dialog}>`
}
