// Frames and how they are shown: the rules of PS3.3 C.11.1 and C.11.2 for gray images, done here so that dragging a
// window asks the node for nothing. Colour, palettes and what is rarer come rendered from the node.

import { fetched, value } from './api.js'

const NATIVE = 'application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1'
const PIXEL_DATA = ['7FE00010', '7FE00008', '7FE00009']

/** Whether there is anything to be seen in an instance. */
export const hasPixels = (instance) => value(instance, '00280010') > 0 && value(instance, '00280011') > 0

/** The instances of a series as a list of frames, in their order. */
export function framesOf(instances) {
  return instances.filter(hasPixels).flatMap((instance) =>
    Array.from({ length: Number(value(instance, '00280008')) || 1 }, (_, at) => new Frame(instance, at + 1)))
}

/** One frame: where it is, and what its header says about showing it. */
export class Frame {
  constructor(instance, number) {
    this.instance = instance
    this.number = number
    this.rows = value(instance, '00280010')
    this.columns = value(instance, '00280011')
  }

  get path() {
    const [study, series, uid] = ['0020000D', '0020000E', '00080018'].map((tag) => value(this.instance, tag))
    return `/studies/${study}/series/${series}/instances/${uid}/frames/${this.number}`
  }

  /** An attribute of the frame: its functional groups (PS3.3 C.7.6.16) say it, or the instance. */
  get(tag) {
    for (const [groups, at] of [['52009230', this.number - 1], ['52009229', 0]]) {
      const macros = this.instance[groups]?.Value?.[at] ?? {}
      for (const sequence of ['00289145', '00289132', '00209116', '00289110', '00209113']) {
        const item = macros[sequence]?.Value?.[0]
        if (item?.[tag]?.Value) return item[tag].Value
      }
    }
    return this.instance[tag]?.Value
  }

  first(tag) { return this.get(tag)?.[0] }

  /** Whether the page itself can show it: one gray sample of up to 16 bits, without tables. */
  get isPlain() {
    const allocated = value(this.instance, '00280100')
    return ['MONOCHROME1', 'MONOCHROME2'].includes(value(this.instance, '00280004')) && [8, 16].includes(allocated)
      && (value(this.instance, '00280002') ?? 1) === 1 && !this.instance['00283000']
      && !(this.instance['00283010'] && !this.instance['00281050'])
      && !PIXEL_DATA.slice(1).some((tag) => this.instance[tag])
  }

  get isInverse() {
    return value(this.instance, '00280004') === 'MONOCHROME1' || value(this.instance, '20500020') === 'INVERSE'
  }

  /** Windows that the header offers: centre, width, name. */
  get windows() {
    const names = this.get('00281055') ?? []
    const widths = this.get('00281051') ?? []
    return (this.get('00281050') ?? []).map((centre, at) => ({ centre: Number(centre), width: Number(widths[at]), name: names[at] ?? '' }))
      .filter(({ centre, width }) => Number.isFinite(centre) && width > 0)
  }

  /** Return a function from stored bits to a number: sign, unused bits, slope and intercept. */
  get meaning() {
    const stored = value(this.instance, '00280101') ?? value(this.instance, '00280100')
    const away = 32 - stored
    const isSigned = value(this.instance, '00280103') === 1
    const slope = Number(this.first('00281053') ?? 1)
    const intercept = Number(this.first('00281052') ?? 0)
    return (bits) => ((isSigned ? (bits << away) >> away : (bits << away) >>> away) * slope) + intercept
  }
}

/** Fetches frames and keeps the last ones, up to a number of bytes. */
export class Store {
  constructor(root, most = 400e6) { this.root = root; this.most = most; this.kept = new Map(); this.size = 0 }

  /** Return the pixels of a frame: `{ samples }` if the page shows them, or `{ picture }` as the node rendered it. */
  get(frame, window) {
    const key = frame.isPlain ? frame.path : `${frame.path} ${JSON.stringify(window ?? '')}`
    const found = this.kept.get(key) ?? this.fetch(frame, window, key)
    this.kept.delete(key)
    this.kept.set(key, found)
    return found
  }

  fetch(frame, window, key) {
    const size = frame.rows * frame.columns * (value(frame.instance, '00280100') / 8 || 2)
    this.size += size
    const coming = frame.isPlain ? this.samples(frame) : this.picture(frame, window)
    coming.size = size
    coming.catch(() => { this.kept.delete(key); this.size -= size })
    for (const [old, each] of this.kept) {
      if (this.size <= this.most) break
      this.kept.delete(old)
      this.size -= each.size
    }
    return coming
  }

  async samples(frame) {
    const answer = await fetched('GET', this.root + frame.path, { accept: NATIVE })
    const bytes = await answer.arrayBuffer()
    return { samples: value(frame.instance, '00280100') === 8 ? new Uint8Array(bytes) : new Uint16Array(bytes) }
  }

  async picture(frame, window) {
    const query = window ? `?window=${window.centre},${window.width},linear` : ''
    const answer = await fetched('GET', `${this.root}${frame.path}/rendered${query}`, { accept: 'image/png' })
    return { picture: await createImageBitmap(await answer.blob()) }
  }
}

/** Return the window from the darkest to the brightest value, padding left out, as C.11.2.1.2 would have it. */
export function fullWindow(frame, samples) {
  const meaning = frame.meaning
  const padding = value(frame.instance, '00280120')
  const stored = new Frame({ ...frame.instance, 52009229: undefined, 52009230: undefined, '00281053': undefined, '00281052': undefined }, 1).meaning
  let [low, high] = [Infinity, -Infinity]
  for (const bits of samples) {
    if (padding !== undefined && stored(bits) === padding) continue
    const seen = meaning(bits)
    if (seen < low) low = seen
    if (seen > high) high = seen
  }
  if (low > high) return { centre: 0, width: 1, isExact: true }
  return { centre: (low + high) / 2, width: high - low || 1, isExact: true }
}

/** Return what every stored value looks like, 0 to 255, PS3.3 C.11.2.1.2 and C.11.2.1.3; in single precision. */
export function lookUp(frame, window, isInverse) {
  const table = new Uint8Array(value(frame.instance, '00280100') === 8 ? 256 : 65536)
  const { fround } = Math
  const meaning = frame.meaning
  const kind = window.isExact ? 'LINEAR_EXACT' : frame.first('00281056') ?? 'LINEAR'
  const centre = window.centre
  const width = window.width
  for (let bits = 0; bits < table.length; bits += 1) {
    const seen = fround(meaning(bits))
    let share
    if (kind === 'SIGMOID') share = 1 / (1 + Math.exp(-4 * (seen - centre) / width))
    else if (kind === 'LINEAR_EXACT') share = (seen - centre) / width + 0.5
    else if (width <= 1) share = seen > centre - 0.5 ? 1 : 0
    else share = fround(fround(fround(seen - fround(centre - 0.5)) / fround(width - 1)) + 0.5)
    if (isInverse) share = 1 - share
    table[bits] = fround(Math.min(1, Math.max(0, share)) * 255) + 0.5
  }
  return table
}

/** Put the pixels of a frame onto a canvas of its size. */
export function paint(canvas, frame, { samples, picture }, window, isInverse) {
  canvas.width = frame.columns
  canvas.height = frame.rows
  const context = canvas.getContext('2d', { alpha: false })
  if (picture) { context.drawImage(picture, 0, 0, frame.columns, frame.rows); return }
  const image = context.createImageData(frame.columns, frame.rows)
  const out = new Uint32Array(image.data.buffer)
  const table = lookUp(frame, window, isInverse)
  const most = Math.min(out.length, samples.length)
  for (let at = 0; at < most; at += 1) out[at] = 0xff000000 | (table[samples[at]] * 0x010101)
  context.putImageData(image, 0, 0)
}

/** Letters for where right, bottom, left and top of the picture lie in the patient, PS3.3 C.7.6.1.1.1. */
export function directions(frame) {
  const cosines = frame.get('00200037')?.map(Number)
  if (cosines?.length !== 6) return null
  const letters = (x, y, z) => [[x, 'L', 'R'], [y, 'P', 'A'], [z, 'H', 'F']].filter(([part]) => Math.abs(part) > 0.3)
    .sort(([a], [b]) => Math.abs(b) - Math.abs(a)).map(([part, plus, minus]) => part > 0 ? plus : minus).join('')
  const [x, y, z, a, b, c] = cosines
  return { right: letters(x, y, z), left: letters(-x, -y, -z), bottom: letters(a, b, c), top: letters(-a, -b, -c) }
}
