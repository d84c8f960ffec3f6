// The series of a study, wherever they lie, and which of them hold pictures.

import { search, value } from './api.js'
import { html, useState } from './parts.js'

const FIELDS = ['00080021', '0008103E', '00200011', '00201209', '00080016', '00100010', '00100020', '00100021', '00080020', '00081030', '00080056']
// SOP Classes without pixels, by how their UIDs begin (PS3.4 Table B.5-1): documents, waveforms, presentation states.
const WITHOUT = ['1.2.840.10008.5.1.4.1.1.88.', '1.2.840.10008.5.1.4.1.1.11.', '1.2.840.10008.5.1.4.1.1.104.',
  '1.2.840.10008.5.1.4.1.1.9.', '1.2.840.10008.5.1.4.1.1.66', '1.2.840.10008.5.1.4.1.1.481.3', '1.2.840.10008.5.1.4.1.1.481.5',
  '1.2.840.10008.5.1.4.1.1.481.8', '1.2.840.10008.5.1.4.34.', '1.2.840.10008.5.1.4.1.1.4.2']
const SEGMENTATION = '1.2.840.10008.5.1.4.1.1.66.4'

/** Return the series of a study, as QIDO-RS answers them, in the order of their numbers. */
export async function seriesOf(root, study) {
  const found = await search(`${root}/studies/${study}/series?${FIELDS.map((tag) => `includefield=${tag}`).join('&')}`)
  return found.sort((one, other) => (value(one, '00200011') ?? 1e9) - (value(other, '00200011') ?? 1e9))
}

/** Whether there may be something to be seen in a series. */
export function isPicture(series) {
  const classes = series['00080016']?.Value ?? []
  return !classes.length || classes.some((uid) => uid === SEGMENTATION || !WITHOUT.some((beginning) => uid.startsWith(beginning)))
}

/** A small picture of a series; where the node can make none, its modality in a dark square. */
export function Picture({ root, study, series }) {
  const [isMissing, setMissing] = useState(false)
  if (isMissing) return html`<span class="picture" aria-hidden="true">${value(series, '00080060')}</span>`
  return html`<img class="picture" src=${`${root}/studies/${study}/series/${value(series, '0020000E')}/thumbnail?viewport=128,128`} alt="" loading="lazy" onError=${() => setMissing(true)} />`
}
