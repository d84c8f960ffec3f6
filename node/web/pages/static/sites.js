// Sites: the grid as a picture, and of each site how it is reached and how far either side is behind the other.

import { get } from './api.js'
import { show } from './frame.js'
import { html, Progress, State, Table, Trouble, useAnswer } from './parts.js'
import { count, said, span, t, told } from './words.js'

const LEVEL = 15

/** The word for a site, and how good that is: both directions count, not only what we know of them. */
export function standing(peer) {
  if (peer.state === 'expelled') return ['bad', t('expelled')]
  if (peer.state !== 'connected') return ['bad', t('not connected')]
  const ours = behind(peer.lag)
  const theirs = behind(peer.their_lag)
  if (!peer.lag?.length && !peer.their_lag?.length) return ['waiting', t('connected; neither follows the other')]
  if (ours > 0 || theirs > 0) return ['moving', t('catching up')]
  return ['good', t('in step')]
}

const behind = (lags) => (lags ?? []).reduce((sum, lag) => sum + (lag.behind ?? 0), 0)

function lagSays(lags) {
  if (!lags?.length) return '–'
  const changes = behind(lags)
  const seconds = Math.max(...lags.map((lag) => lag.seconds ?? 0))
  if (!changes && seconds <= LEVEL) return t('level')
  return [changes && t('{n} changes', { n: changes }), seconds > LEVEL && t('{span} old', { span: span(seconds) })].filter(Boolean).join(', ')
}

function Sites() {
  const { answer, error, again } = useAnswer(async (signal) => ({
    status: await get('/api/status', { signal }),
    grid: told.is_in_grid ? await get('/api/peers', { signal }) : null,
  }), [], 3)
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking how the sites are')} />`
  const { grid, status } = answer
  const disk = status.disk
  return html`<${Trouble} error=${error} again=${again} />
    <section class="card"><h2>${told.node}${grid && grid.site !== told.node ? ` · ${grid.site}` : ''}</h2>
      <p>${[t('{n} studies', { n: status.archive.studies }), t('{n} images', { n: status.archive.instances }),
    t('{share} % of the disk is free', { share: Math.round(100 * disk.free / disk.size) }),
    grid && t('certificate good for {n} days', { n: Math.floor(grid.certificate_days) })].filter(Boolean).join(' · ')}</p>
      ${disk.is_full && html`<${State} kind="bad">${t('nothing more is taken in: the disk is full')}</${State}>`}</section>
    ${!grid && html`<p class="empty">${t('This node is in no grid. An invitation from another hospital, or one to it, begins one:')} <code>peerpacs invite</code>, <code>peerpacs join</code></p>`}
    ${grid && html`<${Graph} grid=${grid} />
    <${Table} label=${t('Sites')} rows=${grid.peers} keyOf=${(row) => row.node_id} empty=${t('No other site has joined yet.')} columns=${COLUMNS} />`}`
}

/** Rights with those together that are on the same share, under the same conditions. */
function shares(may) {
  const found = new Map()
  for (const [, op, share] of may.map((words) => /^(\w+) on (.+)$/.exec(words) ?? ['', words, ''])) found.set(share, [...(found.get(share) ?? []), op])
  return found.size ? [...found] : [[t('nothing'), []]]
}

const COLUMNS = [
  { head: t('Site'), kind: 'nowrap', cell: (row) => html`<strong>${row.site || row.name}</strong>${row.site && row.site !== row.name && html`<span class="under">${row.name}</span>`}` },
  { head: t('State'), cell: (row) => { const [kind, says] = standing(row); return html`<${State} kind=${kind}>${says}</${State}>${row.why && html`<span class="under">${said(row.why)} ${said(row.next)}</span>`}` } },
  { head: t('We are behind them'), kind: 'nowrap', cell: (row) => lagSays(row.lag) },
  { head: t('They are behind us'), kind: 'nowrap', cell: (row) => lagSays(row.their_lag) },
  { head: t('Studies known here'), kind: 'number', cell: (row) => count((row.lag ?? []).reduce((sum, lag) => sum + (lag.studies ?? 0), 0)) },
  { head: t('May do here'), cell: (row) => shares(row.may).map(([share, ops]) => html`<span>${[share, ops.join(', ')].filter(Boolean).join(': ')}</span><br />`) },
  { head: t('Clock'), kind: 'nowrap', cell: (row) => row.skew === null ? '–' : `${row.skew > 0 ? '+' : ''}${count(row.skew)} s` },
]

/** This node in the middle; a line to each site, dashed where there is no connection. */
function Graph({ grid }) {
  const [width, height, across, down] = [900, 310, 330, 85]
  const places = grid.peers.map((peer, number) => {
    const angle = (2 * Math.PI * number) / grid.peers.length - Math.PI / 2 + (grid.peers.length === 2 ? Math.PI / 2 : 0)
    return { peer, x: width / 2 + across * Math.cos(angle), y: height / 2 + down * Math.sin(angle) }
  })
  const colour = { good: 'var(--good-fill)', moving: 'var(--moving-fill)', bad: 'var(--bad-fill)', waiting: 'var(--waiting-fill)' }
  return html`<svg class="chart graph" viewBox="0 0 ${width} ${height}" role="img" aria-label=${t('The grid {name}', { name: grid.grid })}>
    <text x="14" y="24">${t('The grid {name}', { name: grid.grid })}</text>
    ${places.map(({ peer, x, y }) => { const [kind] = standing(peer)
    return html`<line x1=${width / 2} y1=${height / 2} x2=${x} y2=${y} style=${{ stroke: colour[kind], strokeWidth: kind === 'bad' ? 2 : 4, strokeDasharray: kind === 'bad' ? '6 6' : '' }} />` })}
    ${places.map(({ peer, x, y }) => { const [kind, says] = standing(peer)
    return html`<g><circle cx=${x} cy=${y} r="17" style=${{ fill: colour[kind] }} /><text class="name" x=${x} y=${y < height / 2 ? y - 38 : y + 34} text-anchor="middle">${peer.site || peer.name}</text><text x=${x} y=${y < height / 2 ? y - 24 : y + 48} text-anchor="middle">${says}</text></g>` })}
    <circle cx=${width / 2} cy=${height / 2} r="24" style=${{ fill: 'var(--node)' }} /><text class="name" x=${width / 2} y=${height / 2 + 42} text-anchor="middle">${grid.site} (${t('this node')})</text></svg>`
}

if (told.page === 'sites') show(t('Sites'), Sites)
