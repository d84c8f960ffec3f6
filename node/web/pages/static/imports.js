// Imports: folders, zip files and media of the node's machine that are taken in, and how far each is.

import { api, ask, get, post } from './api.js'
import { show } from './frame.js'
import { Deed, html, Progress, State, Table, Trouble, useAnswer, useState } from './parts.js'
import { count, said, t } from './words.js'

const SOURCE = { name: 'source', label: t('Path on the machine of the node'), required: true, maxlength: 4096, placeholder: '/media/cdrom', hint: t('A folder, a zip file, or a medium with a DICOMDIR.') }
const FIELDS = [SOURCE,
  { name: 'issuer', label: t('Issuer of the Patient ID'), maxlength: 64, placeholder: 'HOSP-B', hint: t('Whose the Patient IDs are that come without an issuer. Empty leaves them as they are.') },
  { name: 'patient', label: t('All of it is of the patient'), maxlength: 64, placeholder: '4711', hint: t('A Patient ID as it is here. Empty leaves each study with its own.') },
]
const TOLD = new Set(['id', 'archive', 'source', 'issuer', 'patient', 'is_over', 'failure', 'warning', 'odd', 'not_stored'])
const FATES = { stored: t('stored'), refused: t('refused'), 'not DICOM': t('not DICOM'), missing: t('missing'), 'done earlier': t('done earlier') }
const counts = (row) => Object.entries(row).filter(([name, value]) => !TOLD.has(name) && value > 0)

const listed = (rows) => rows.length > 0 && html`<details><summary>${count(rows.length)}</summary><ul>${rows.slice(0, 100).map((each) => html`<li><code>${Object.values(each).map(said).join(' · ')}</code></li>`)}</ul>${rows.length > 100 && html`<p class="hint">${t('The first 100; all of them: peerpacs import --json')}</p>`}</details>`

function Imports() {
  const { answer, error, again } = useAnswer((signal) => get(`${api}/imports`, { signal }), [], 2)
  const [deed, setDeed] = useState()
  if (!answer) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Progress} says=${t('Looking what is taken in')} />`
  return html`<${Trouble} error=${error} again=${again} />
    <div class="actions"><button class="main" onClick=${() => setDeed(begin)}>${t('Import')}</button>
      <span class="hint">${t('One that was stopped goes on where it was when it is started again.')}</span></div>
    <${Table} label=${t('Imports')} rows=${answer} empty=${t('Nothing was imported since the node started.')} columns=${[
    { head: t('From'), cell: (row) => html`<code>${row.source}</code><span class="under">${row.archive}</span>` },
    { head: t('State'), cell: (row) => html`${row.failure ? html`<${State} kind="bad">${t('stopped')}</${State}>` : row.is_over ? html`<${State} kind="good">${t('done')}</${State}>` : html`<${State} kind="moving">${t('being taken in')}</${State}>`}
      ${[row.failure, row.warning].filter(Boolean).map((says) => html`<span class="under">${said(says)}</span>`)}` },
    { head: t('Files'), cell: (row) => counts(row).map(([name, number]) => html`<span class="nowrap">${count(number)} ${FATES[name] ?? name}</span><br />`) },
    { head: t('Not stored'), cell: (row) => listed(row.not_stored) },
    { head: t('Odd'), cell: (row) => listed(row.odd) },
    { head: '', cell: (row) => !row.is_over && html`<button class="small" onClick=${() => setDeed(stop(row))}>${t('Stop')}</button>` },
  ]} />
    ${deed && html`<${Deed} ...${deed} close=${() => { setDeed(); again() }} />`}`
}

const begin = { title: t('Import'), verb: t('Begin'), fields: FIELDS, does: (form) => post(`${api}/imports`, form) }
const stop = (row) => ({ title: t('Stop'), verb: t('Stop'), says: t('It takes in no more files. What is stored stays.'), does: () => ask('DELETE', `${api}/imports/${row.id}`) })

show(t('Imports'), Imports)
