// The parts that pages are put together from.

import { html, useEffect, useRef, useState } from './preact.js'
import { count, said, t, told } from './words.js'

export { html, useEffect, useRef, useState }

/** A sentence about something that went wrong, what can be done about it, and a way to try again. */
export function Trouble({ error, again }) {
  if (!error) return null
  return html`<div class="notice bad" role="alert"><strong>${said(error.message)}</strong>
    ${error.next && html`<span>${said(error.next)}</span>`}
    ${again && html`<button onClick=${again}>${t('Try again')}</button>`}</div>`
}

/** What is under way, as a sentence; with a share it is a bar. */
export function Progress({ says, share }) {
  return html`<div class="progress" role="status"><span>${says}</span>
    ${share === undefined ? html`<progress aria-label=${says}></progress>`
      : html`<progress aria-label=${says} max="1" value=${share}></progress>`}</div>`
}

/** A state in a word and a shape, never by colour alone. */
export function State({ kind, children, title }) {
  const mark = { good: '●', moving: '◐', waiting: '○', bad: '✕', warn: '▲' }[kind] ?? '○'
  return html`<span class="state ${kind}" title=${title}><span aria-hidden="true">${mark}</span> ${children}</span>`
}

/** Ask now, and again every `seconds` while the page is looked at; returns what came, trouble, and how to ask. */
export function useAnswer(question, inputs = [], seconds = 0) {
  const [state, set] = useState({})
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    let timer
    const stop = new AbortController()
    const step = async () => {
      try {
        const answer = await question(stop.signal)
        if (!stop.signal.aborted) set({ answer })
      } catch (error) {
        if (!stop.signal.aborted) set((before) => ({ ...before, error }))
      }
      if (seconds && !stop.signal.aborted) timer = setTimeout(look, seconds * 1000)
    }
    const look = () => (document.hidden ? (timer = setTimeout(look, 500)) : step())
    step()
    return () => { stop.abort(); clearTimeout(timer) }
  }, [...inputs, turn])
  return { ...state, again: () => setTurn((n) => n + 1) }
}

/** A dialog of the browser's own, so that focus stays in it and Escape closes it. */
export function Dialog({ title, close, children }) {
  const place = useRef()
  useEffect(() => { place.current.showModal() }, [])
  return html`<dialog ref=${place} onClose=${close} aria-label=${title}>
    <header><h2>${title}</h2>
      <button class="quiet" onClick=${() => place.current.close()} aria-label=${t('Close')}>✕</button></header>
    ${children}</dialog>`
}

/** A dialog that does something with a reason, or with what its fields say; what goes wrong stands in it. */
export function Deed({ title, says, fields = [], verb, does, close, danger }) {
  const [error, setError] = useState()
  const [isBusy, setBusy] = useState(false)
  const submit = async (event) => {
    event.preventDefault()
    setBusy(true)
    try {
      await does(Object.fromEntries(new FormData(event.target)))
      close()
    } catch (trouble) { setError(trouble); setBusy(false) }
  }
  return html`<${Dialog} title=${title} close=${close}><form onSubmit=${submit}>
    ${says && html`<p>${says}</p>`}
    ${fields.map((field) => html`<${Field} key=${field.name} ...${field} />`)}
    <${Trouble} error=${error} />
    <div class="actions"><button class=${danger ? 'danger' : 'main'} disabled=${isBusy}>${verb}</button></div>
  </form></${Dialog}>`
}

export const REASON = { name: 'reason', label: t('Reason'), required: true, maxlength: 1000, hint: t('It goes on record with your name.') }

/** A labelled field of a form; `value` is what it begins with, and what is typed stays when the page is drawn again. */
export function Field({ label, hint, options, value, ...rest }) {
  const field = options
    ? html`<select ...${rest}>${options.map(([key, says]) => html`<option value=${key} selected=${key === value}>${says}</option>`)}</select>`
    : html`<input ...${rest} defaultValue=${value} />`
  return html`<label class="field"><span>${label}</span>${field}${hint && html`<small>${hint}</small>`}</label>`
}

/** Rows one can walk through with j and k and open with o or Enter; where it is narrow, each is a card of its own. */
export function Table({ label, columns, rows, open, empty, keyOf = (row) => row.id, mark, isDense }) {
  const [at, setAt] = useState(-1)
  const now = useRef(-1)
  const body = useRef()
  useEffect(() => {
    const hear = (event) => {
      if (event.target.closest('input, select, textarea, dialog') || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.key === 'j' || event.key === 'k') {
        const next = Math.max(0, Math.min(rows.length - 1, now.current + (event.key === 'j' ? 1 : -1)))
        now.current = next
        setAt(next)
        body.current?.children[next]?.scrollIntoView({ block: 'nearest' })
      } else if (event.key === 'o' && open && rows[now.current]) open(rows[now.current])
    }
    addEventListener('keydown', hear)
    return () => removeEventListener('keydown', hear)
  })
  if (!rows.length) return html`<p class="empty">${empty}</p>`
  return html`<div class="scroll ${isDense ? 'dense' : ''}"><table role="table" aria-label=${label}>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => column.head
      ? html`<th role="columnheader" class=${column.kind} scope="col">${column.head}</th>` : html`<td role="cell"></td>`)}</tr></thead>
    <tbody role="rowgroup" ref=${body}>${rows.map((row, number) => html`<tr role="row" key=${keyOf(row)} class="${number === at ? 'at' : ''} ${mark?.(row) ?? ''}"
      onClick=${(event) => { if (open && !event.target.closest('a, button, input, label')) open(row) }}>
      ${columns.map((column) => html`<td role="cell" class=${column.kind} data-head=${column.head}>${column.cell(row)}</td>`)}</tr>`)}</tbody></table></div>`
}

/** Two columns: what it is, and its value. */
export function Facts({ rows }) {
  return html`<dl class="facts">${rows.filter(([, value]) => value !== undefined && value !== '' && value !== null)
    .map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}

export const link = (path) => told.archive && told.archive !== 'main' ? `${path}${path.includes('?') ? '&' : '?'}archive=${told.archive}` : path

/** Solid: the whole study. Half: part of it. Dashed: it cannot be reached now. */
export function Site({ site }) {
  const says = site.is_whole ? t('{site} has all of it', site) : t('{site} has {k} images of it', { site: site.site, k: site.instances })
  const away = site.is_reachable ? '' : `; ${t('not reachable now')}`
  return html`<span class="badge ${site.is_whole ? 'whole' : 'part'} ${site.is_reachable ? '' : 'away'}" title=${says + away}>${site.site}${site.is_whole ? '' : ` ${count(site.instances)}`}</span>`
}
