// Open: the address for other systems. Finds a study, wherever it is, brings it here and shows it, and says each step.

import { dicomweb, fetched, get, search } from './api.js'
import { show } from './frame.js'
import { html, link, Progress, Trouble, useEffect, useRef, useState } from './parts.js'
import { bytes, span, t, told } from './words.js'

const uid = told.named.study
const hasGrid = told.is_in_grid && (told.archive ?? 'main') === 'main'

/** Look here, ask the sites, fetch: each step is told; `signal` ends it. */
async function open(tell, signal) {
  tell({ says: t('Looking here') })
  const held = hasGrid ? await get(`/api/grid/studies?key=StudyInstanceUID=${uid}&limit=1`, { signal }) : null
  const sites = held?.studies[0]?.sites ?? []
  if (sites.some((site) => site.is_here && site.is_whole)) return go('')
  const [here] = await search(`${dicomweb}/studies?StudyInstanceUID=${uid}`, { signal })
  if (!hasGrid && here) return go('')
  if (!sites.length) return tell({ isNowhere: true, asked: held?.sites ?? [] })
  if (!sites.some((site) => site.instances)) {
    tell({ says: t('{site} has just announced it; its series follow', sites[0]) })
    await new Promise((after) => setTimeout(after, 700))
    if (!signal.aborted) await open(tell, signal)
    return undefined
  }
  const from = sites.filter((site) => !site.is_here && site.is_reachable)
  if (!from.length) return tell({ isAway: true, sites: sites.map((site) => site.site) })
  const said = { from: from.map((site) => site.site).join(', ') }
  tell({ says: t('Fetching it from {from}', said), canView: true })
  const total = Math.max(...sites.map((site) => site.bytes))
  await fetching(signal, ({ done, of, size, seconds }) => {
    const rate = size / Math.max(seconds, 0.001)
    const left = rate > 0 ? (total - size) / rate : 0
    tell({ share: done / of, canView: true, says: `${t('Fetching it from {from}', said)}: ${t('{k} of {n} images', { k: done, n: of })}, ${bytes(rate)}/s${left > 1 ? `, ${t('{span} to go', { span: span(left) })}` : ''}` })
  })
  return go('?sites=all')
}

const go = (query) => location.replace(link(`/view/${uid}${query}`))

/** The node brings the study here and says how far it is, a line for each image. */
async function fetching(signal, tell) {
  const began = performance.now()
  const answer = await fetched('POST', `/api/grid/studies/${uid}/fetch`, { signal, accept: 'application/x-ndjson' })
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    const last = lines.pop()
    if (!last) continue
    const told = JSON.parse(last)
    if (told.why) throw Object.assign(new Error(told.why), { next: told.next })
    tell({ done: told.done, of: told.of, size: told.bytes, seconds: (performance.now() - began) / 1000 })
  }
}

function Open() {
  const [state, tell] = useState({ says: t('Looking here') })
  const [error, setError] = useState()
  const stop = useRef()
  const begin = () => {
    setError()
    stop.current = new AbortController()
    open(tell, stop.current.signal).catch((trouble) => {
      if (trouble.name === 'AbortError') tell({ isStopped: true })
      else setError(trouble)
    })
  }
  useEffect(() => { begin(); return () => stop.current.abort() }, [])
  if (error) return html`<${Trouble} error=${error} again=${begin} />`
  return html`<section class="card"><p><code>${uid}</code></p>
    ${state.isNowhere && html`<p><strong>${t('No site that answers knows this study.')}</strong> ${hasGrid ? t('{n} other sites were asked.', { n: state.asked.length }) : t('This node is in no grid, so only this node was asked.')}</p>
      ${state.asked.filter((site) => site.is_silent).map((site) => html`<p>▲ ${t('{site} did not answer.', site)}</p>`)}`}
    ${state.isAway && html`<p><strong>${t('It is at {sites}, which cannot be reached now.', { sites: state.sites.join(', ') })}</strong></p>`}
    ${state.isStopped && html`<p>${t('Stopped. What came already is kept.')}</p>`}
    ${state.says && html`<${Progress} says=${state.says} share=${state.share} />`}
    <div class="actions">${state.says && html`<button onClick=${() => stop.current.abort()}>${t('Stop')}</button>`}
      ${state.canView && html`<a class="button" href=${link(`/view/${uid}?sites=all`)}>${t('View what is there')}</a>`}
      ${(state.isAway || state.isStopped || state.isNowhere) && html`<button onClick=${begin}>${t('Try again')}</button>`}
      <a class="button" href=${link('/')}>${t('To all studies')}</a></div></section>`
}

show(t('Open a study'), Open)
