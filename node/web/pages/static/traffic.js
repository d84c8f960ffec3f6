// Traffic: Figures 6 and 7 of the cloud PACS paper, live. A bar for each series that arrived, at its time and as high as
// it is large; and a bar for each device, put together from its series. Colours are modalities, shades are devices.

import { api, get } from './api.js'
import { show } from './frame.js'
import { html, link, Progress, Table, Trouble, useAnswer, useEffect, useRef, useState } from './parts.js'
import { bytes, count, moment, t } from './words.js'

const SPANS = [[3600, t('hour')], [86400, t('day')], [7 * 86400, t('week')], [30 * 86400, t('month')]]
const COLOURS = { CT: '#2f74b5', MR: '#d9822b', CR: '#3a9a5b', DX: '#7a5bb8', US: '#c4483e', MG: '#b8508d', XA: '#8a6a3b', PT: '#5a8f8f', NM: '#a3912f' }
const OTHER = '#7d8894'
const [WIDTH, LEFT, RIGHT] = [1000, 76, 14]

/** A lighter or darker form of a modality's colour, by which device it is. */
function shade(modality, place) {
  const share = [0, 0.25, -0.2, 0.45, -0.35, 0.12, -0.1][place % 7]
  const colour = COLOURS[modality] ?? OTHER
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))
  return `rgb(${parts.map((part) => Math.round(part + share * (share > 0 ? 255 - part : part))).join(' ')})`
}

function Traffic() {
  const [length, setLength] = useState(86400)
  const { answer, error, again } = useAnswer((signal) => get(`${api}/traffic?seconds=${length}`, { signal }), [length], 15)
  const series = answer?.series ?? []
  const devices = byDevice(series)
  return html`<div class="filters"><span class="choice" role="group" aria-label=${t('How far back')}>${SPANS.map(([seconds, name]) =>
    html`<button aria-pressed=${seconds === length} onClick=${() => setLength(seconds)}>${name}</button>`)}</span></div>
    <${Trouble} error=${error} again=${again} />
    ${!answer && !error && html`<${Progress} says=${t('Reading what arrived')} />`}
    ${answer && !series.length && html`<p class="empty">${t('Nothing arrived in this time.')}</p>`}
    ${answer?.is_cut && html`<div class="notice warn">${t('There is more than can be shown; these are the latest changes.')}</div>`}
    ${series.length > 0 && html`<p class="answered">${t('{n} series', { n: series.length })}, ${bytes(series.reduce((sum, each) => sum + each.bytes, 0))}</p>
      <ul class="legend">${[...new Set(series.map((each) => each.modality))].map((modality) => html`<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" fill=${COLOURS[modality] ?? OTHER} /></svg>${modality || t('(no modality)')}</li>`)}</ul>
      <h2>${t('Every series by its time and size')}</h2><${OverTime} series=${series} devices=${devices} now=${answer.now} length=${length} />
      <h2>${t('What each device sent')}</h2><${PerDevice} devices=${devices} />
      <h2>${t('In numbers')}</h2><${Table} label=${t('In numbers')} rows=${devices} keyOf=${(row) => row.key} columns=${COLUMNS} empty="" />`}`
}

const COLUMNS = [
  { head: t('Device'), cell: (row) => row.device },
  { head: t('Modality'), cell: (row) => row.modality },
  { head: t('Series'), kind: 'number', cell: (row) => count(row.series.length) },
  { head: t('Images'), kind: 'number', cell: (row) => count(row.instances) },
  { head: t('Size'), kind: 'number', cell: (row) => bytes(row.bytes) },
  { head: t('Last'), kind: 'nowrap', cell: (row) => moment(row.last, 'short') },
]

function byDevice(series) {
  const found = new Map()
  const places = {}
  for (const each of series) {
    const key = `${each.device} ${each.modality}`
    if (!found.has(key)) {
      const place = places[each.modality] = (places[each.modality] ?? -1) + 1
      found.set(key, { key, device: each.device || t('(unnamed)'), modality: each.modality, colour: shade(each.modality, place), series: [], bytes: 0, instances: 0, last: 0 })
    }
    const row = found.get(key)
    row.series.push(each)
    row.bytes += each.bytes
    row.instances += each.instances
    row.last = Math.max(row.last, each.time)
  }
  return [...found.values()].sort((one, other) => other.bytes - one.bytes)
}

const about = (each) => `${each.device} · ${each.modality} · ${bytes(each.bytes)} · ${moment(each.time, 'short')}`

/** Where there is no room for a chart it keeps its size and is moved below the window, which begins at its latest part. */
function Pan({ says, isLatestRight, children }) {
  const place = useRef()
  useEffect(() => { if (isLatestRight) place.current.scrollLeft = place.current.scrollWidth }, [])
  return html`<div class="pan" ref=${place} role="region" aria-label=${says} tabindex="0">${children}</div>`
}

/** Figure 6. */
function OverTime({ series, devices, now, length }) {
  const [height, top, bottom] = [300, 14, 28]
  const colours = Object.fromEntries(devices.map((row) => [row.key, row.colour]))
  const low = Math.log10(Math.max(1, Math.min(...series.map((each) => each.bytes)) / 2))
  const high = Math.log10(Math.max(...series.map((each) => each.bytes)) * 1.3)
  const x = (time) => LEFT + ((time - (now - length)) / length) * (WIDTH - LEFT - RIGHT)
  const y = (size) => height - bottom - ((Math.log10(Math.max(size, 1)) - low) / (high - low || 1)) * (height - top - bottom)
  const ticks = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, at) => 10 ** (Math.ceil(low) + at))
  const times = Array.from({ length: 7 }, (_, at) => now - length + (at * length) / 6)
  return html`<${Pan} says=${t('Every series by its time and size')} isLatestRight><svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="group" aria-label=${t('Every series by its time and size')}>
    ${ticks.map((size) => html`<line x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(size)} y2=${y(size)} /><text x=${LEFT - 6} y=${y(size) + 4} text-anchor="end">${bytes(size)}</text>`)}
    ${times.map((time, at) => html`<text x=${x(time)} y=${height - 8} text-anchor=${at === 0 ? 'start' : at === 6 ? 'end' : 'middle'}>${clock(time, length)}</text>`)}
    ${series.map((each) => html`<a href=${link(`/study/${each.StudyInstanceUID}`)} aria-label=${about(each)}><rect x=${x(each.time) - 1.5} y=${y(each.bytes)} width="3" height=${Math.max(1, height - bottom - y(each.bytes))} fill=${colours[`${each.device} ${each.modality}`]}><title>${about(each)}</title></rect></a>`)}</svg></${Pan}>`
}

function clock(time, length) {
  const at = new Date(time * 1000)
  const two = (value) => String(value).padStart(2, '0')
  return length <= 86400 ? `${two(at.getHours())}:${two(at.getMinutes())}` : `${two(at.getMonth() + 1)}-${two(at.getDate())}`
}

/** Figure 7. */
function PerDevice({ devices }) {
  const [step, top, left] = [26, 6, 250]
  const most = Math.max(...devices.map((row) => row.bytes), 1)
  const height = top + step * devices.length + 24
  const wide = (size) => (size / most) * (WIDTH - left - 90)
  return html`<${Pan} says=${t('What each device sent')}><svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label=${t('What each device sent')}>
    ${devices.map((row, number) => { let from = left
    return html`<text class="name" x=${left - 8} y=${top + step * number + 16} text-anchor="end">${`${row.device} · ${row.modality}`.slice(0, 32)}</text>
      ${row.series.map((each) => { const at = from; from += wide(each.bytes)
    return html`<rect x=${at} y=${top + step * number + 4} width=${Math.max(0.6, wide(each.bytes) - 0.6)} height=${step - 8} fill=${row.colour}><title>${about(each)}</title></rect>` })}
      <text x=${from + 6} y=${top + step * number + 16}>${bytes(row.bytes)}</text>` })}</svg></${Pan}>`
}

show(t('Traffic'), Traffic)
