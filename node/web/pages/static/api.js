// Asks the node, remembers what was asked for "as API", and turns every failure into a sentence.

import { told, t } from './words.js'

const isMain = !told.archive || told.archive === 'main'
export const api = isMain ? '/api' : `/api/archives/${told.archive}`
export const dicomweb = isMain ? '/dicom-web' : `/archives/${told.archive}/dicom-web`
export const grid = '/grid/dicom-web'
export const may = (right) => (told.rights ?? []).includes(right)
export const asked = new Map()
const listeners = new Set()

/** Have a function called when something was asked. */
export function onAsked(listen) { listeners.add(listen); return () => listeners.delete(listen) }

/** What went wrong, as the node says it: what happened, and what can be done. */
export class Problem extends Error {
  constructor(title, next = '', status = 0) { super(title); this.next = next; this.status = status }
}

/** Ask, and return the Response if it is a good one. */
export async function fetched(method, path, { body, accept = 'application/json', signal, type } = {}) {
  const headers = { Accept: accept }
  if (method !== 'GET') headers['X-CSRF-Token'] = told.csrf ?? ''
  if (body !== undefined) headers['Content-Type'] = type ?? 'application/json'
  remember(method, path, headers, body)
  let answer
  try {
    answer = await fetch(path, {
      method, headers, signal, body: body === undefined || type ? body : JSON.stringify(body),
    })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Problem(t('The node does not answer.'), t('Look whether it runs; this page tries again.'))
  }
  if (answer.ok) return answer
  const problem = await answer.json().catch(() => ({}))
  if (answer.status === 401 && told.page !== 'login') {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`)
  }
  throw new Problem(problem.detail || problem.title || `HTTP ${answer.status}`, problem.next ?? '', answer.status)
}

/** Ask, and return what the JSON says; null where there is none. */
export async function ask(method, path, options) {
  const answer = await fetched(method, path, options)
  return answer.status === 204 || answer.headers.get('Content-Length') === '0' ? null : answer.json()
}

export const get = (path, options) => ask('GET', path, options)
export const post = (path, body) => ask('POST', path, { body: body ?? undefined })

/** Return the answer to a question that came with the page itself, once; undefined where there is none. */
export function given(path) {
  const { first } = told
  if (first?.path !== path) return undefined
  delete told.first
  remember('GET', path, { Accept: 'application/json' })
  return first.answer
}

/** Search by QIDO-RS; returns the matches, and what the node warns of. */
export async function search(path, options) {
  const answer = await fetched('GET', path, { accept: 'application/dicom+json', ...options })
  return answer.status === 204 ? [] : answer.json()
}

/** Return the first value of an attribute in DICOM JSON. */
export function value(attributes, tag) {
  const first = attributes?.[tag]?.Value?.[0]
  return first?.Alphabetic ?? first
}

function remember(method, path, headers, body) {
  const key = `${method} ${path.replace(/[\d.]{12,}/g, '*')}`
  asked.delete(key)
  asked.set(key, { method, path, accept: headers.Accept, body: typeof body === 'object' ? body : undefined })
  if (asked.size > 12) asked.delete(asked.keys().next().value)
  for (const listen of listeners) listen()
}
