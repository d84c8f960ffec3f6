// Peers: who asks to join, tickets, what each peer may do here, and putting one out of the grid.

import { ask, get, post } from './api.js'
import { show } from './frame.js'
import { Deed, Dialog, html, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { standing } from './sites.js'
import { moment, said, t, told } from './words.js'

function Peers() {
  const { answer, error, again } = useAnswer(async (signal) => {
    if (!told.is_in_grid) return { peers: null, requests: [], grants: [] }
    const peers = await get('/api/peers', { signal })
    const requests = peers.is_authority ? await get('/api/peer-requests', { signal }) : []
    return { peers, requests, grants: (await get('/api/grants', { signal })).grants }
  }, [], 5)
  const [deed, setDeed] = useState()
  const [ticket, setTicket] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking at the grid')} />`
  const { peers, requests, grants } = answer
  const close = () => { setDeed(); again() }
  return html`<${Trouble} error=${error} again=${again} />
    ${requests.map((request) => html`<div class="notice warn" key=${request.request}><strong>${t('{name} of {site} asks to join.', request)}</strong>
      <span>${t('Compare these words by telephone:')} <strong class="mono">${request.words.join(' ')}</strong></span><span class="hint">${request.node_id.slice(0, 12)} · ${moment(request.received, 'short')}</span>
      <button class="main" onClick=${() => setDeed(approve(request))}>${t('Approve')}</button><button onClick=${() => setDeed(deny(request))}>${t('Refuse')}</button></div>`)}
    ${!peers && html`<p class="empty">${t('This node is in no grid. An invitation from another hospital, or one to it, begins one:')} <code>peerpacs invite</code>, <code>peerpacs join</code></p>`}
    ${peers && html`<section class="card"><p>${t('The grid {name}', { name: peers.grid })} · <code>${peers.grid_id}</code><br />
      ${t('This node is {site}; its id begins with {id}.', { site: peers.site, id: peers.node_id.slice(0, 12) })}</p>
      <div class="actions">${peers.is_authority ? html`<button class="main" onClick=${() => setDeed(invite(setTicket))}>${t('Invite a hospital')}</button>` : html`<span class="hint">${t('Invitations are made at a node that is an authority of the grid.')}</span>`}</div></section>
    <${Table} label=${t('Peers')} rows=${peers.peers} keyOf=${(row) => row.node_id} empty=${t('No other site has joined yet.')} columns=${columns(setDeed, grants, peers.is_authority)} />`}
    ${deed && html`<${Deed} ...${deed} close=${close} />`}
    ${ticket && html`<${Ticket} ticket=${ticket} close=${() => setTicket()} />`}`
}

const columns = (setDeed, grants, isAuthority) => [
  { head: t('Site'), kind: 'nowrap', cell: (row) => html`<strong>${row.name}</strong>${row.site !== row.name && html`<span class="under">${row.site}</span>`}` },
  { head: t('State'), cell: (row) => { const [kind, says] = standing(row); return html`<${State} kind=${kind}>${says}</${State}>${row.why && html`<span class="under">${said(row.why)} ${said(row.next)}</span>`}` } },
  { head: t('Address'), cell: (row) => html`<code>${row.addresses.join(' ') || t('it calls us')}</code>` },
  { head: t('May do here'), cell: (row) => html`${own(row, grants).map((grant) => html`<span class="badge tag">${grant.share}: ${[grant.ops.join(', '), ...grant.purposes, ...grant.roles].join('; ')}</span> `)}${!own(row, grants).length && t('nothing')}` },
  { head: '', kind: 'nowrap', cell: (row) => row.state !== 'expelled' && html`<button class="small" onClick=${() => setDeed(grant(row, grants))}>${t('What it may')}</button>
    ${isAuthority && html` <button class="small" onClick=${() => setDeed(expel(row))}>${t('Expel')}</button>`}` },
]

const own = (row, grants) => grants.filter((grant) => grant.peer === `node:${row.node_id}` || grant.peer === `site:${row.site}`)
const approve = (request) => ({ title: t('Approve {name}', request), says: t('Only if the words are the same on both sides. What it may do here is in its invitation.'), verb: t('The words are the same: approve'), does: () => post(`/api/peer-requests/${request.request}/approve`) })
const deny = (request) => ({ title: t('Refuse {name}', request), verb: t('Refuse'), danger: true, fields: [{ name: 'reason', label: t('Reason'), maxlength: 200 }], does: (form) => post(`/api/peer-requests/${request.request}/deny`, form) })
const expel = (row) => ({ title: t('Expel {name}', row), verb: t('Expel'), danger: true, says: t('It can no longer ask any site for anything, and what is known of its studies here goes at once. Copies that it fetched of our studies stay with it.'), does: () => post(`/api/peers/${row.node_id}/revoke`) })
const grant = (row, grants) => ({ title: t('What {name} may do with everything here', row), verb: t('Save'), fields: [{ name: 'ops', label: t('It may'), options: [['catalog find_live retrieve', t('see our catalog, ask and fetch')], ['catalog', t('see our catalog only')], ['', t('nothing')]] }],
  does: async ({ ops }) => {
    // What it may for some purposes, roles, hours or bytes a second only stays limited so.
    const { rate, hours, purposes, roles } = own(row, grants).find(({ share, project, peer }) => share === 'everything' && !project && peer.startsWith('node:')) || {}
    if (ops) await post('/api/grants', { peer: row.node_id, share: 'everything', ops: ops.split(' '), rate, hours, purposes, roles })
    else await Promise.all(own(row, grants).filter(({ share }) => share === 'everything').map(({ id }) => ask('DELETE', `/api/grants?id=${encodeURIComponent(id)}`)))
  } })
const invite = (setTicket) => ({ title: t('Invite a hospital'), verb: t('Make the ticket'), says: t('One ticket is for one node, once, within a day. When it is used, you approve here.'), fields: [{ name: 'site', label: t('What the hospital is called'), required: true, maxlength: 64 }], does: async ({ site }) => setTicket(await post('/api/peer-invitations', { site })) })

function Ticket({ ticket, close }) {
  return html`<${Dialog} title=${t('The ticket for {site}', ticket)} close=${close}><p>${t('Send it to its administrator, who enters:')}</p>
    <div class="commands"><pre><code>peerpacs join ${ticket.ticket}</code></pre></div><button onClick=${() => navigator.clipboard?.writeText(ticket.ticket)}>${t('Copy')}</button></${Dialog}>`
}

show(t('Peers'), Peers)
