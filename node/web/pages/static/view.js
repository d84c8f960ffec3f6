// Quick look: one series at a time, to see what is there. It is not for diagnosis, and says so on every picture.

import { dicomweb, grid, search, value } from './api.js'
import { show } from './frame.js'
import { html, link, Trouble, useAnswer, useEffect, useRef, useState } from './parts.js'
import { directions, framesOf, fullWindow, paint, Store } from './pixels.js'
import { isPicture, Picture, seriesOf } from './series.js'
import { count, day, person, t, told } from './words.js'

const params = new URLSearchParams(location.search)
const isGrid = params.get('sites') === 'all'
const root = isGrid ? grid : dicomweb
const study = told.named.study
const store = new Store(root)
const CT = [['1', t('Soft tissue'), 40, 400], ['2', t('Lung'), -600, 1500], ['3', t('Bone'), 400, 1800], ['4', t('Brain'), 40, 80]]
const AHEAD = 4

function View() {
  const { answer: series, error } = useAnswer(() => seriesOf(root, study))
  const [chosen, choose] = useState(params.get('series'))
  const pictures = series?.filter(isPicture) ?? []
  const uid = chosen ?? (pictures[0] && value(pictures[0], '0020000E'))
  const pick = (next) => {
    params.set('series', next)
    history.replaceState(null, '', `?${params}`)
    choose(next)
  }
  if (error) return html`<${Trouble} error=${error} />`
  if (series && !series.length) return html`<p class="empty">${t('This study is not here.')} <a href=${link(`/open/${study}`)}>${t('Look for it at all sites')}</a></p>`
  if (series && !pictures.length) return html`<p class="empty">${t('There are no pictures in this study.')} <a href=${link(`/study/${study}`)}>${t('Back to the study')}</a></p>`
  return html`<div class="viewer" data-series=${uid}>
    <div class="strip"><a href=${link(`/study/${study}`)}>← ${t('Study')}</a>
      ${series && html`<strong>${person(value(series[0], '00100010'))}</strong><span>${[value(series[0], '00100020'), day(value(series[0], '00080020'))].filter(Boolean).join(' · ')}</span>`}
      <span class="spring"></span><span class="warning">${t('Not for diagnosis')}</span></div>
    <div class="rail" aria-label=${t('Series')}>${pictures.map((each) => html`<button aria-current=${value(each, '0020000E') === uid} onClick=${() => pick(value(each, '0020000E'))}>
      <${Picture} root=${root} study=${study} series=${each} /><span>${value(each, '00200011') ?? ''} ${value(each, '0008103E') || value(each, '00080060')}<br />
      ${t('{n} images', { n: value(each, '00201209') ?? 0 })}</span></button>`)}</div>
    ${uid && html`<${Series} key=${uid} uid=${uid} />`}</div>`
}

function Series({ uid }) {
  const { answer: frames, error, again } = useAnswer(async () =>
    framesOf(await search(`${root}/studies/${study}/series/${uid}/metadata`)))
  if (error) return html`<div class="stage"><${Trouble} error=${error} again=${again} /></div>`
  if (!frames) return html`<div class="stage"><p class="corner nw">${t('Reading the headers of the series')}</p></div>`
  if (!frames.length) return html`<div class="stage"><p class="corner nw">${t('There are no pictures in this series.')}</p></div>`
  return html`<${Stage} frames=${frames} />`
}

function Stage({ frames }) {
  const [at, setAt] = useState(Math.min(Number(params.get('image') ?? 1) - 1, frames.length - 1))
  const [window, setWindow] = useState()
  const [place, setPlace] = useState({ zoom: 1, x: 0, y: 0 })
  const [isInverse, setInverse] = useState(false)
  const [tool, setTool] = useState('window')
  const [drawn, setDrawn] = useState({})
  const canvas = useRef()
  const stage = useRef()
  const frame = frames[at]
  const go = (by) => setAt((now) => Math.max(0, Math.min(frames.length - 1, now + by)))
  const reset = () => { setWindow(); setPlace({ zoom: 1, x: 0, y: 0 }); setInverse(false) }

  useEffect(() => {
    let isOld = false
    store.get(frame, window).then((pixels) => {
      if (isOld) return
      const used = window ?? frame.windows[0] ?? (pixels.samples && fullWindow(frame, pixels.samples))
      paint(canvas.current, frame, pixels, used, isInverse !== frame.isInverse)
      fit(stage.current, canvas.current, place)
      setDrawn({ at, used, isInverse, key: `${at + 1} ${window ? `${window.centre}/${window.width}` : 'own'}` })
      for (let near = 1; near <= AHEAD; near += 1) {
        for (const next of [at + near, at - near]) {
          if (next >= 0 && next < frames.length) store.get(frames[next], frames[next].isPlain ? undefined : window).catch(() => {})
        }
      }
    }, (error) => { if (!isOld) setDrawn({ at, error }) })
    return () => { isOld = true }
  }, [at, window, isInverse])
  useEffect(() => {
    fit(stage.current, canvas.current, place)
    const watch = new ResizeObserver(() => fit(stage.current, canvas.current, place))
    watch.observe(stage.current)
    return () => watch.disconnect()
  }, [place])
  useEffect(() => {
    const hear = (event) => {
      if (event.target.closest('dialog, select') || event.ctrlKey || event.metaKey || event.altKey) return
      const preset = CT.find(([key]) => key === event.key)
      const does = {
        ArrowDown: () => go(1), ArrowUp: () => go(-1), ArrowRight: () => go(1), ArrowLeft: () => go(-1),
        PageDown: () => go(10), PageUp: () => go(-10), Home: () => setAt(0), End: () => setAt(frames.length - 1),
        r: reset, i: () => setInverse((now) => !now), '+': () => zoom(1.25), '-': () => zoom(0.8),
      }[event.key] ?? (preset && isCT(frame) && (() => setWindow({ centre: preset[2], width: preset[3] })))
      if (does) { event.preventDefault(); does() }
    }
    addEventListener('keydown', hear)
    return () => removeEventListener('keydown', hear)
  })
  const zoom = (by) => setPlace((now) => ({ ...now, zoom: Math.max(0.1, Math.min(32, now.zoom * by)) }))
  const wheel = (event) => { event.preventDefault(); if (event.ctrlKey) zoom(event.deltaY < 0 ? 1.15 : 0.87); else go(event.deltaY > 0 ? 1 : -1) }
  const press = (event) => {
    if (event.target.closest('button')) return
    const kind = event.button === 2 ? 'zoom' : event.button === 1 || event.shiftKey ? 'pan' : tool
    event.currentTarget.setPointerCapture(event.pointerId)
    const from = { x: event.clientX, y: event.clientY, place, used: drawn.used }
    const move = (to) => {
      const [dx, dy] = [to.clientX - from.x, to.clientY - from.y]
      if (kind === 'pan') setPlace({ ...from.place, x: from.place.x + dx, y: from.place.y + dy })
      else if (kind === 'zoom') setPlace({ ...from.place, zoom: Math.max(0.1, Math.min(32, from.place.zoom * 1.01 ** -dy)) })
      else if (from.used && frame.isPlain) {
        const step = Math.max(from.used.width, 1) / 250
        setWindow({ centre: Math.round((from.used.centre + dy * step) * 10) / 10, width: Math.max(1, Math.round((from.used.width + dx * step) * 10) / 10) })
      }
    }
    const target = event.currentTarget
    const end = () => { target.removeEventListener('pointermove', move); target.removeEventListener('pointerup', end) }
    target.addEventListener('pointermove', move)
    target.addEventListener('pointerup', end)
  }
  const where = directions(frame)
  const used = drawn.used
  return html`<div class="stage" ref=${stage} data-drawn=${drawn.key} onWheel=${wheel} onPointerDown=${press} onContextMenu=${(event) => event.preventDefault()}>
      <canvas ref=${canvas} role="img" aria-label=${t('Image {k} of {n}', { k: at + 1, n: frames.length })}></canvas>
      <div class="corner nw">${[person(value(frame.instance, '00100010')), value(frame.instance, '00100020'), day(value(frame.instance, '00100030'))].filter(Boolean).join('\n')}</div>
      <div class="corner ne">${[value(frame.instance, '00080080'), value(frame.instance, '00081030'), value(frame.instance, '0008103E'), day(value(frame.instance, '00080020'), value(frame.instance, '00080030'))].filter(Boolean).join('\n')}</div>
      <div class="corner sw">${t('Image {k} of {n}', { k: at + 1, n: frames.length })}${used && frame.isPlain ? `\n${t('Window')} ${count(used.width)} / ${count(used.centre)}` : ''}${value(frame.instance, '00282110') === '01' ? `\n${t('Lossy compression')}` : ''}</div>
      <div class="corner se"><span class="warning">${t('Not for diagnosis')}</span></div>
      ${where && Object.entries(where).map(([side, letters]) => html`<span class="edge at-${side}" aria-hidden="true">${letters}</span>`)}
      ${drawn.error && html`<div class="corner middle"><${Trouble} error=${drawn.error} /></div>`}
    </div>
    <div class="foot"><span class="choice" role="group" aria-label=${t('What dragging does')}>
        ${[['window', t('Window')], ['pan', t('Move')], ['zoom', t('Zoom')]].map(([name, says]) => html`<button aria-pressed=${tool === name} onClick=${() => setTool(name)}>${says}</button>`)}</span>
      <${Presets} frame=${frame} window=${window} set=${setWindow} />
      <button onClick=${() => setInverse(!isInverse)} aria-pressed=${isInverse}>${t('Invert')}</button>
      <button onClick=${reset}>${t('Reset')}</button>
      <input type="range" min="1" max=${frames.length} value=${at + 1} aria-label=${t('Image')} onInput=${(event) => setAt(Number(event.target.value) - 1)} /></div>`
}

const isCT = (frame) => value(frame.instance, '00080060') === 'CT'

function Presets({ frame, window, set }) {
  if (!frame.isPlain) return null
  const own = frame.windows.map(({ name, centre, width }) => [name || `${count(width)} / ${count(centre)}`, centre, width])
  const all = [...own, ...(isCT(frame) ? CT.map(([, name, centre, width]) => [name, centre, width]) : [])]
  const at = all.findIndex(([, centre, width]) => window && window.centre === centre && window.width === width)
  const pick = (event) => { const found = all[event.target.value]; set(found && { centre: found[1], width: found[2] }) }
  return html`<label class="inline">${t('Window')} <select onChange=${pick}><option value="" selected=${at < 0}>${window ? t('by hand') : t('as stored')}</option>
    ${all.map(([name], number) => html`<option value=${number} selected=${at === number}>${name}</option>`)}</select></label>`
}

/** Have the picture fill the stage, in its proportions, then moved and enlarged as the reader wants. */
function fit(stage, canvas, { zoom, x, y }) {
  if (!stage || !canvas?.width) return
  const scale = zoom * Math.min(stage.clientWidth / canvas.width, stage.clientHeight / canvas.height)
  canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale}) translate(-50%, -50%)`
  canvas.style.imageRendering = scale > 3 ? 'pixelated' : 'auto'
}

show(t('Quick look'), View, { isWide: true })
