// Research: projects, what is exported of them and how far it is, what waits for a look, and what nothing vouches for.

import { get, may, post } from './api.js'
import { show } from './frame.js'
import { Deed, Facts, Field, html, Progress, REASON, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { bytes, count, moment, said, span, t } from './words.js'

const chosen = () => new URLSearchParams(location.search).get('project') ?? ''
const at = (project) => `/api/projects/${encodeURIComponent(project)}`

function Research() {
  const [project, setProject] = useState(chosen)
  const pick = (name) => { history.replaceState(null, '', name ? `?project=${encodeURIComponent(name)}` : location.pathname); setProject(name) }
  if (project) return html`<p><a href="/research" onClick=${(event) => { event.preventDefault(); pick('') }}>← ${t('All projects')}</a></p><${Project} key=${project} name=${project} />`
  return may('manage') ? html`<${Projects} pick=${pick} />` : html`<${Ask} pick=${pick} />`
}

function Ask({ pick }) {
  return html`<form onSubmit=${(event) => { event.preventDefault(); pick(new FormData(event.target).get('project')) }}>
    <${Field} label=${t('Name of the project')} name="project" required /><button class="main">${t('Open')}</button></form>`
}

function Projects({ pick }) {
  const { answer, error, again } = useAnswer((signal) => get('/api/projects', { signal }), [], 10)
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking for projects')} />`
  return html`<${Trouble} error=${error} again=${again} />
    <${Table} label=${t('Projects')} rows=${answer} keyOf=${(row) => row.name} open=${(row) => pick(row.name)}
      empty=${html`${t('There is no project yet. One is made with:')} <code>peerpacs projects add NAME</code>`} columns=${[
    { head: t('Project'), cell: (row) => html`<button class="quiet first" onClick=${() => pick(row.name)}>${row.name}</button><span class="under">${row.title}</span>` },
    { head: t('Profile'), cell: (row) => row.profile },
    { head: t('Members'), cell: (row) => row.members.join(', ') },
    { head: t('Exports'), kind: 'number', cell: (row) => count(row.exports) },
    { head: t('Held back'), kind: 'number', cell: (row) => row.held ? html`<${State} kind="warn">${count(row.held)}</${State}>` : '0' },
    { head: t('Sites'), cell: (row) => row.partners.map((each) => each.name).join(', ') || t('only this one') },
    { head: t('Ends'), kind: 'nowrap', cell: (row) => row.ends || '–' },
  ]} />`
}

async function look(name, signal) {
  const [project, exports, held] = await Promise.all([get(at(name), { signal }), get(`${at(name)}/exports`, { signal }),
    may('decide') ? get(`${at(name)}/quarantine`, { signal }) : []])
  return { project, exports: exports.sort((one, other) => other.when - one.when), held }
}

function Project({ name }) {
  const { answer, error, again } = useAnswer((signal) => look(name, signal), [name], 4)
  const [deed, setDeed] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking at the project')} />`
  const { project, exports, held } = answer
  const close = () => { setDeed(); again() }
  return html`<${Trouble} error=${error} again=${again} />
    <section class="card"><h2>${project.name} ${project.title && `· ${project.title}`}</h2><${Facts} rows=${[
    [t('Profile'), project.profile], [t('Members'), project.members.join(', ')], [t('Approved by'), project.approvers.join(', ')],
    [t('Sites'), project.partners.map((each) => each.name).join(', ')], [t('Ends'), project.ends],
    [t('Fewest subjects told'), count(project.smallest)],
  ]} /><${Policy} name=${name} /></section>
    <h2>${t('New export')}</h2><${Wizard} name=${name} done=${again} />
    <h2>${t('Exports')}</h2>
    <${Table} label=${t('Exports')} rows=${exports} empty=${t('Nothing was exported yet.')} columns=${columns(name, setDeed)} />
    ${held.length > 0 && html`<h2>${t('Held back: nothing vouches for it')}</h2><${Table} label=${t('Held back')} rows=${held} columns=${heldColumns(name, setDeed)} />`}
    ${deed && html`<${Deed} ...${deed} close=${close} />`}`
}

function Policy({ name }) {
  const [isOpen, setOpen] = useState(false)
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>${t('What happens to each attribute')}</summary>${isOpen && html`<${Lines} name=${name} />`}</details>`
}

function Lines({ name }) {
  const { answer, error } = useAnswer(() => get(`${at(name)}/policy`))
  return html`<${Trouble} error=${error} />${answer ? html`<ul>${answer.map((line) => html`<li>${line}</li>`)}</ul>` : !error && html`<${Progress} says=${t('Reading the policy')} />`}`
}

const [APPROVAL, A_LOOK] = ['waits for approval', 'waits for a look before release']
const stage = (standing) => standing === 'released' ? 'good' : ['failed', 'refused', 'stopped'].includes(standing) ? 'bad' : [APPROVAL, A_LOOK].includes(standing) ? 'waiting' : 'moving'

const columns = (name, setDeed) => {
  const act = (row, word, title, says, fields = []) => html`<button class="small" onClick=${() => setDeed({ title, says, fields, verb: title, does: (form) => post(`${at(name)}/exports/${row.id}/${word}`, fields.length ? form : undefined) })}>${title}</button> `
  return [
    { head: t('Ordered'), kind: 'nowrap', cell: (row) => html`${moment(row.when, 'short')}<span class="under">${row.who}</span>` },
    { head: t('What for'), cell: (row) => html`${row.purpose || '–'}<span class="under">${row.target}</span>` },
    { head: t('State'), kind: 'says', cell: (row) => html`<${State} kind=${stage(row.standing)}>${said(row.standing)}</${State}>
      ${row.progress.total > 0 && html`<${Progress} says=${`${row.progress.step} ${count(row.progress.done)} / ${count(row.progress.total)}`} share=${row.progress.done / row.progress.total} />`}
      ${row.why && html`<span class="under">${said(row.why)}</span>`}${row.sites.map((site) => html`<span class="under">${site.name}: ${said(site.standing)} ${said(site.why)}</span>`)}` },
    { head: t('Released'), kind: 'number', cell: (row) => html`${count(row.released)} / ${count(row.found)}<span class="under">${bytes(row.size)}</span>${Object.entries(row.held).map(([why, n]) => html`<span class="under">${count(n)} ${why}</span>`)}` },
    { head: '', kind: 'nowrap', cell: (row) => html`${[APPROVAL, A_LOOK].includes(row.standing) && html`${row.standing === A_LOOK ? act(row, 'release', t('Let it go'), t('You have looked at what is to leave.')) : act(row, 'approve', t('Approve'), t('It may run and leave this site, de-identified by the profile of its project.'))}
      ${act(row, 'refuse', t('Refuse'), '', [REASON])}`}${stage(row.standing) === 'moving' && act(row, 'stop', t('Stop'), '')}${row.standing === 'failed' && act(row, 'retry', t('Try again'), '')}
      ${row.target.startsWith('download:') && row.manifest && html`<a class="button small" href=${`${at(name)}/exports/${row.id}/zip`} download>${t('Download as zip')}</a>`}` },
  ]
}

const heldColumns = (name, setDeed) => [
  { head: t('Why'), cell: (row) => html`${said(row.sentence)}<span class="under">${row.reason}</span>` },
  { head: t('From'), kind: 'nowrap', cell: (row) => html`${row.source}<span class="under">${moment(row.when, 'short')}</span>` },
  { head: t('Size'), kind: 'number', cell: (row) => bytes(row.size) },
  { head: t('Goes by itself'), kind: 'nowrap', cell: (row) => t('in {span}', { span: span(Math.max(0, row.until - Date.now() / 1000)) }) },
  { head: '', kind: 'nowrap', cell: (row) => html`<button class="small" onClick=${() => setDeed({ title: t('Destroy'), says: t('This cannot be taken back.'), danger: true, fields: [REASON], verb: t('Destroy'), does: (form) => post(`${at(name)}/quarantine/${row.id}/reject`, form) })}>${t('Destroy')}</button>${' '}
    <button class="small" onClick=${() => setDeed({ title: t('Run it again'), says: said(row.sentence), fields: [{ ...REASON, required: false }], verb: t('Run it again'), does: (form) => post(`${at(name)}/quarantine/${row.id}/rerun`, form) })}>${t('Run it again')}</button>` },
]

/** Question, counts of each site, then the order: nothing runs before somebody has seen how much it is. */
function Wizard({ name, done }) {
  const [preview, setPreview] = useState()
  const [error, setError] = useState()
  const [isBusy, setBusy] = useState(false)
  const question = (form) => ({ query: form.get('query').split('\n').map((line) => line.trim()).filter(Boolean) })
  const step = (does) => async (event) => {
    event.preventDefault()
    const form = new FormData(event.target.form ?? event.target)
    setBusy(true)
    setError()
    try { await does(form) } catch (trouble) { setError(trouble) }
    setBusy(false)
  }
  const count1 = step(async (form) => setPreview(await post(`${at(name)}/preview`, question(form))))
  const order = step(async (form) => { await post(`${at(name)}/exports`, { ...question(form), purpose: form.get('purpose'), is_standing: form.has('standing') }); setPreview(); done() })
  return html`<form class="card" onSubmit=${preview ? order : count1}>
    <label class="field"><span>${t('Which studies: one condition a line, as Modality=CT or StudyDate=2024-')}</span><textarea name="query" rows="3" required onInput=${() => setPreview()}></textarea></label>
    <${Field} label=${t('What for; an ethics number')} name="purpose" maxlength="200" />
    <label class="inline"><input type="checkbox" name="standing" /> ${t('Also what comes later')}</label>
    <${Trouble} error=${error} />
    ${isBusy && html`<${Progress} says=${preview ? t('Ordering it') : t('Counting at each site')} />`}
    ${preview && html`<${Table} label=${t('What each site has')} rows=${preview.sites} keyOf=${(site) => site.site} empty="" columns=${COUNTED} />`}
    <div class="actions">${preview ? html`<button class="main" disabled=${isBusy}>${t('Order this export')}</button>` : html`<button class="main" disabled=${isBusy}>${t('Count')}</button>`}</div></form>`
}

const COUNTED = [
  { head: t('Site'), cell: (site) => site.site },
  { head: t('Subjects'), kind: 'number', cell: (site) => few(site.subjects, site) },
  { head: t('Studies'), kind: 'number', cell: (site) => few(site.studies, site) },
  { head: t('Size'), kind: 'number', cell: (site) => site.megabytes < 0 ? '–' : bytes(site.megabytes * 1e6) },
  { head: t('State'), cell: (site) => said(site.state) },
]
const few = (number, site) => number < 0 ? `< ${site.smallest}` : count(number)

show(t('Research'), Research)
