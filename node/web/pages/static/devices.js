// Devices: who may do what, who was refused lately and why, and whether a device answers.

import { ask, get, may } from './api.js'
import { show } from './frame.js'
import { Dialog, Field, html, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { count, moment, said, t, told } from './words.js'

const SERVICES = ['echo', 'store', 'find', 'move', 'get', 'commit', 'reject']

function Devices() {
  const [changed, change] = useState()
  const { answer, error, again } = useAnswer(async (signal) => {
    const [devices, status] = await Promise.all([get('/api/devices', { signal }), may('watch') ? get('/api/status', { signal }) : {}])
    return { devices, refusals: status.refusals ?? [], ports: status.ports ?? {} }
  }, [], 5)
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Reading the device book')} />`
  const done = () => { change(); again() }
  return html`<${Trouble} error=${error} again=${again} />
    <section class="card"><p>${t('What to enter at a modality or workstation:')}</p>
      <p><strong>${told.ae_title}</strong> · ${location.hostname} · ${t('port {port}', { port: String(answer.ports.dicom ?? '?') })}
      ${answer.ports.tls ? ` · ${t('with TLS {port}', { port: String(answer.ports.tls) })}` : ''}
      ${told.is_in_grid && html`<br /><strong>${told.ae_title}_GRID</strong> · ${t('the same address answers for all sites')}`}</p></section>
    <h2>${t('Refused lately')}</h2>
    <${Table} label=${t('Refused lately')} rows=${answer.refusals.slice(0, 30)} keyOf=${(row) => `${row.ae_title} ${row.address} ${row.what}`} empty=${t('Nobody was refused.')}
      columns=${[
    { head: t('Who'), kind: 'nowrap', cell: (row) => html`${row.ae_title || t('(nobody by name)')}<span class="under">${row.address}</span>` },
    { head: t('What'), cell: (row) => said(row.what) },
    { head: t('Why'), cell: (row) => html`${said(row.why)}${row.remedy && html`<span class="under mono">${said(row.remedy)}</span>`}` },
    { head: t('Times'), kind: 'number', cell: (row) => count(row.count) },
    { head: t('Last'), kind: 'nowrap', cell: (row) => moment(row.last, 'short') },
    { head: '', cell: (row) => row.ae_title && !row.what.startsWith('web') && html`<button class="small" onClick=${() => change(allowed(row, answer.devices))}>${t('Allow')}</button>` },
  ]} />
    <div class="actions"><h2>${t('Device book')}</h2><button onClick=${() => change({ isNew: true, ae_title: '', services: ['echo', 'store'] })}>${t('Add a device')}</button></div>
    <${Table} label=${t('Device book')} rows=${answer.devices} keyOf=${(row) => row.ae_title} empty=${t('The book is empty: nobody may do more than C-ECHO.')}
      columns=${[
    { head: t('AE title'), kind: 'nowrap', cell: (row) => html`<strong>${row.ae_title}</strong>${row.note && html`<span class="under">${row.note}</span>`}` },
    { head: t('Address'), kind: 'breaks', cell: (row) => `${row.address || t('any')}${row.port ? `:${row.port}` : ''}` },
    { head: t('May'), cell: (row) => html`<span class="badges">${row.services.map((service) => html`<span class="badge tag">${service}</span>`)}</span>` },
    { head: t('Moves to'), cell: (row) => row.move_destinations.join(', ') },
    { head: t('C-ECHO'), cell: (row) => row.port > 0 && html`<${Echo} row=${row} />` },
    { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => change(row)}>${t('Edit')}</button> <${Forget} row=${row} done=${again} />` },
  ]} />
    ${changed && html`<${Edit} row=${changed} close=${() => change()} done=${done} />`}`
}

/** What the book would have to say for a refused device to be let in. */
function allowed(refusal, devices) {
  const known = devices.find((device) => device.ae_title === refusal.ae_title)
  const wanted = SERVICES.filter((service) => refusal.what.toLowerCase().includes(service))
  return { ...(known ?? { isNew: true, ae_title: refusal.ae_title, address: refusal.address }), services: [...new Set([...(known?.services ?? ['echo']), ...wanted])] }
}

function Echo({ row }) {
  const [heard, say] = useState()
  const call = async () => {
    say({ isBusy: true })
    try { say({ seconds: (await ask('POST', `/api/devices/${encodeURIComponent(row.ae_title)}/echo`)).seconds }) } catch (error) { say({ error }) }
  }
  if (heard?.isBusy) return t('calling …')
  return html`<button class="small" onClick=${call}>${t('Call')}</button> ${heard?.error && html`<${State} kind="bad">${said(heard.error.message)}</${State}>`}
    ${heard?.seconds !== undefined && html`<${State} kind="good">${t('{ms} ms', { ms: Math.round(heard.seconds * 1000) })}</${State}>`}`
}

function Forget({ row, done }) {
  const [isAsked, ask2] = useState(false)
  const [error, setError] = useState()
  const forget = async () => {
    try { await ask('DELETE', `/api/devices/${encodeURIComponent(row.ae_title)}`); done() } catch (trouble) { setError(trouble) }
  }
  if (error) return html`<${Trouble} error=${error} />`
  return isAsked ? html`<button class="small danger" onClick=${forget}>${t('Really forget it')}</button>` : html`<button class="small" onClick=${() => ask2(true)}>${t('Forget')}</button>`
}

function Edit({ row, close, done }) {
  const [error, setError] = useState()
  const save = async (event) => {
    event.preventDefault()
    const form = new FormData(event.target)
    const { isNew, ae_title: known, ...rest } = row
    const body = { ...rest, address: form.get('address'), port: Number(form.get('port') || 0), note: form.get('note'),
      services: form.getAll('services'), move_destinations: form.get('moves').split(/[ ,]+/).filter(Boolean) }
    try { await ask('PUT', `/api/devices/${encodeURIComponent(isNew ? form.get('ae_title') : known)}`, { body }); done() } catch (trouble) { setError(trouble) }
  }
  return html`<${Dialog} title=${row.isNew ? t('Add a device') : row.ae_title} close=${close}><form onSubmit=${save}>
    ${row.isNew && html`<${Field} label=${t('AE title')} name="ae_title" value=${row.ae_title} required maxlength="16" hint=${t('As the device calls itself; upper and lower case differ.')} />`}
    <${Field} label=${t('Address')} name="address" value=${row.address ?? ''} hint=${t('A host or network it calls from; empty for any.')} />
    <${Field} label=${t('Port')} name="port" type="number" min="0" max="65535" value=${row.port || ''} hint=${t('Where it listens, for C-ECHO and for what is sent to it; empty if it does not.')} />
    <fieldset><legend>${t('It may')}</legend>${SERVICES.map((service) => html`<label class="inline"><input type="checkbox" name="services" value=${service} defaultChecked=${row.services.includes(service)} /> ${service}</label> `)}</fieldset>
    <${Field} label=${t('It may C-MOVE to')} name="moves" value=${(row.move_destinations ?? []).join(' ')} hint=${t('AE titles; empty for itself only, * for every device with a port.')} />
    <${Field} label=${t('Note')} name="note" value=${row.note ?? ''} />
    <${Trouble} error=${error} /><div class="actions"><button class="main">${t('Save')}</button></div></form></${Dialog}>`
}

show(t('Devices'), Devices)
