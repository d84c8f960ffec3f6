// Study: who it is about, what it consists of, who holds it, and what can be done with it.

import { api, dicomweb, get, grid, may, post, search, value } from './api.js'
import { Decisions } from './decide.js'
import { show } from './frame.js'
import { Deed, Facts, html, link, Progress, REASON, Site, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { isPicture, Picture, seriesOf } from './series.js'
import { bytes, count, day, identity, moment, person, said, t, told } from './words.js'

const uid = told.named.study
const hasGrid = told.is_in_grid && (told.archive ?? 'main') === 'main'
const STUDY = `studies?StudyInstanceUID=${uid}&includefield=00081030&includefield=00101010&includefield=00100021&includefield=00201208&includefield=00201206`

/** Look here first; what this node lacks, or has only a part of, is asked of the grid. */
async function whole() {
  const held = hasGrid ? await get(`/api/grid/studies?key=StudyInstanceUID=${uid}&limit=1`) : null
  const sites = held?.studies[0]?.sites ?? []
  const isElsewhere = hasGrid && sites.length > 0 && !sites.some((site) => site.is_here && site.is_whole)
  const root = isElsewhere ? grid : dicomweb
  const [study] = await search(`${root}/${STUDY}`)
  return { root, study, sites, series: study ? await seriesOf(root, uid) : [] }
}

function Study() {
  const { answer, error, again } = useAnswer(whole)
  const [deed, setDeed] = useState('')
  const [says, setSays] = useState('')
  const [trouble, setTrouble] = useState()
  if (error) return html`<${Trouble} error=${error} again=${again} />`
  if (!answer) return html`<${Progress} says=${t('Looking for the study')} />`
  const { root, study, sites, series } = answer
  if (!study) return html`<p class="empty">${t('This study is not here.')} <a href=${link(`/open/${uid}`)}>${t('Look for it at all sites')}</a></p>${may('decide') && html`<${Decisions} changed=${again} />`}`
  const from = root === grid ? '?sites=all' : ''
  return html`
    <div class="columns"><section class="card" aria-label=${t('Patient and study')}>
      <h2>${person(value(study, '00100010')) || t('(no name)')}</h2>
      <${Facts} rows=${[
        [t('Patient ID'), identity(value(study, '00100020'), value(study, '00100021'))],
        [t('Born'), day(value(study, '00100030'))],
        [t('Sex'), value(study, '00100040')],
        [t('Study'), value(study, '00081030')],
        [t('Date'), day(value(study, '00080020'), value(study, '00080030'))],
        [t('Accession number'), value(study, '00080050')],
        [t('Referred by'), person(value(study, '00080090'))],
        [t('Images'), `${count(value(study, '00201208') ?? 0)} · ${t('{n} series', { n: Number(value(study, '00201206') ?? series.length) })}`],
        [t('Study Instance UID'), html`<code>${uid}</code>`],
      ]} />
      <div class="actions">
        ${may('retrieve') && series.some(isPicture) && html`<a class="button main" href=${link(`/view/${uid}${from}`)}>${t('Quick look')}</a>`}
        ${may('retrieve') && told.has_ohif && (told.archive ?? 'main') === 'main' && html`<a class="button" href=${`/ohif/viewer/${root === grid ? 'everywhere' : 'node'}?StudyInstanceUIDs=${uid}`}>OHIF</a>`}
        ${may('retrieve') && html`<button onClick=${() => openWeasis(root === grid).catch(setTrouble)} title=${t('For whom Weasis is installed on this computer')}>Weasis</button>`}
        ${may('retrieve') && root !== grid && html`<a class="button" href=${`${api}/studies/${uid}/zip`} download>${t('Download as zip')}</a>`}
        ${may('transfer') && root !== grid && html`<button onClick=${() => setDeed('send')}>${t('Send')}</button>`}
        ${may('decide') && root !== grid && html`<button onClick=${() => setDeed('hide')}>${t('Hide')}</button>`}
      </div>
      <${Trouble} error=${trouble} />
      ${says && html`<div class="notice" role="status">${says}</div>`}
    </section>
    ${sites.length > 0 && html`<${Holdings} sites=${sites} />`}</div>
    <h2>${t('Series')}</h2>
    <ul class="series">${series.map((each) => html`<li key=${value(each, '0020000E')}><${Series} root=${root} from=${from} series=${each} /></li>`)}</ul>
    ${root !== grid && may('decide') && html`<${Decisions} study=${study} series=${series} changed=${again} />`}
    ${root !== grid && may('audit') && html`<${Life} />`}
    ${series.length > 0 && may('retrieve') && html`<${Attributes} root=${root} series=${series} />`}
    ${deed === 'send' && html`<${Send} close=${() => setDeed('')} done=${setSays} />`}
    ${deed === 'hide' && html`<${Deed} title=${t('Hide this study')} says=${t('It is no longer found or sent. Its bytes stay, and this can be taken back.')} danger
      fields=${[REASON]} verb=${t('Hide')} close=${() => setDeed('')} does=${async ({ reason }) => { await post(`${api}/studies/${uid}/reject`, { reason }); location.assign(link('/')) }} />`}`
}

/** Weasis is another program and brings no cookie: it gets a link that opens this study, for some minutes. */
async function openWeasis(everywhere) {
  const { weasis } = await post(`${api}/studies/${uid}/viewer-link`, { everywhere })
  location.assign(weasis)
}

function Series({ root, from, series }) {
  const name = value(series, '0008103E') || t('(no description)')
  const inside = html`${isPicture(series) && may('retrieve') ? html`<${Picture} root=${root} study=${uid} series=${series} />`
    : html`<span class="picture" aria-hidden="true"></span>`}
    <span><strong>${value(series, '00200011') ?? ''} ${name}</strong><br />${value(series, '00080060')} · ${t('{n} images', { n: Number(value(series, '00201209') ?? 0) })}</span>`
  const to = `/view/${uid}${from}${from ? '&' : '?'}series=${value(series, '0020000E')}`
  return isPicture(series) && may('retrieve') ? html`<a class="thumb" href=${link(to)}>${inside}</a>` : html`<div class="thumb">${inside}</div>`
}

function Holdings({ sites }) {
  return html`<section class="card" aria-label=${t('Who holds it')}><h2>${t('Who holds it')}</h2>
    <${Table} label=${t('Who holds it')} rows=${sites} keyOf=${(site) => site.site} empty="" columns=${HOLDINGS} isDense /></section>`
}

const HOLDINGS = [
  { head: t('Site'), cell: (site) => html`<${Site} site=${site} />` },
  { head: t('Images'), kind: 'number', cell: (site) => html`${count(site.instances)}<span class="under">${bytes(site.bytes)}</span>` },
  { head: t('Now'), kind: 'nowrap', cell: (site) => html`${site.is_here ? html`<${State} kind="good">${t('here')}</${State}>` : site.is_reachable ? html`<${State} kind="moving">${t('can be fetched')}</${State}>` : html`<${State} kind="bad">${t('not reachable')}</${State}>`}
    <span class="under">${t('since {day}', { day: moment(site.received, 'short') })}</span>` },
]

function Send({ close, done }) {
  const { answer: devices } = useAnswer(async () => may('manage') ? (await get('/api/devices')).filter((device) => device.port) : [])
  if (!devices) return null
  const to = { name: 'destination', label: t('To the AE title'), required: true, maxlength: 16,
    ...(devices.length ? { options: devices.map((device) => [device.ae_title, `${device.ae_title} · ${device.address}:${device.port}`]) } : {}) }
  const lane = { name: 'lane', label: t('How urgent'), options: [['normal', t('normal')], ['now', t('now (PP)')], ['bulk', t('when there is time')]] }
  return html`<${Deed} title=${t('Send this study')} fields=${[to, lane]} verb=${t('Send')} close=${close} does=${async (form) => {
    await post(`${api}/transfers`, { target: uid, ...form })
    done(html`${t('It is on its way to {to}.', { to: form.destination })} <a href=${link('/transfers')}>${t('Transfers')}</a>`)
  }} />`
}

function Life() {
  const { answer, error } = useAnswer(() => get(`${api}/studies/${uid}/life`))
  return html`<h2>${t('What happened to it')}</h2><${Trouble} error=${error} />
    ${answer && html`<div class="card"><p>${said(answer.now)}</p><ol class="life">${answer.events.map((event) => html`<li><time>${moment(Date.parse(event.time) / 1000)}</time>${said(event.sentence)}</li>`)}</ol></div>`}`
}

function Attributes({ root, series }) {
  const [isOpen, setOpen] = useState(false)
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary><h2 class="inline">${t('Attributes')}</h2></summary>${isOpen && html`<${Tree} root=${root} series=${series} />`}</details>`
}

function Tree({ root, series }) {
  const [chosen, choose] = useState(value(series[0], '0020000E'))
  const [word, setWord] = useState('')
  const { answer, error } = useAnswer(async () => {
    const [instance] = await search(`${root}/studies/${uid}/series/${chosen}/instances?limit=1`)
    const [names, [header]] = await Promise.all([get(`${api}/dictionary`),
      search(`${root}/studies/${uid}/series/${chosen}/instances/${value(instance, '00080018')}/metadata`)])
    return [...rows(header, names)]
  }, [chosen])
  const wanted = word.toLowerCase()
  return html`<div class="filters"><label class="field"><span>${t('Series')}</span><select onChange=${(event) => choose(event.target.value)}>${series.map((each) =>
      html`<option value=${value(each, '0020000E')}>${value(each, '00200011') ?? ''} ${value(each, '0008103E') ?? value(each, '00080060')}</option>`)}</select></label>
      <label class="field"><span>${t('Only with')}</span><input type="search" value=${word} onInput=${(event) => setWord(event.target.value)} /></label></div>
    <${Trouble} error=${error} />
    ${answer ? html`<div class="scroll tree"><table><thead><tr><th scope="col">${t('Attribute')}</th><th scope="col">${t('Tag')}</th><th scope="col">VR</th><th scope="col">${t('Value')}</th></tr></thead>
      <tbody>${answer.filter((row) => !wanted || row.some((part) => String(part).toLowerCase().includes(wanted))).map(([depth, name, tag, vr, text]) => html`<tr>
        <td>${'· '.repeat(depth)}${name}</td><td class="mono nowrap">(${tag.slice(0, 4)},${tag.slice(4)})</td><td class="mono">${vr}</td><td>${text}</td></tr>`)}</tbody></table></div>`
      : !error && html`<${Progress} says=${t('Reading a header of the series')} />`}`
}

function* rows(attributes, names, depth = 0) {
  for (const [tag, element] of Object.entries(attributes)) {
    const values = element.Value ?? []
    const isSequence = element.vr === 'SQ'
    const text = isSequence ? t('{n} items', { n: values.length }) : element.BulkDataURI ? t('(bulk data)') : element.InlineBinary ? t('(binary)')
      : values.map((each) => each?.Alphabetic ?? each?.Ideographic ?? each ?? '').join(' \\ ')
    yield [depth, names[tag] ?? t('(private or unknown)'), tag, element.vr, text]
    if (isSequence) for (const item of values) yield* rows(item ?? {}, names, depth + 1)
  }
}

show(t('Study'), Study)
