// What the server told the page, and words, numbers and dates as the reader wants them.
// English sentences stand in the code; en.json has those that depend on a number, cs.json all of them in Czech.
// The node itself says everything in English; said.cs.json has what pages show of that most, as patterns.

export const told = JSON.parse(document.querySelector('meta[name=peerpacs]').content)
export const language = told.language
const read = async (name) => (await fetch(new URL(name, import.meta.url))).json()
const [sentences, answers] = await Promise.all([read(`${language}.json`), language === 'en' ? {} : read(`said.${language}.json`)])
const plural = new Intl.PluralRules(language)
const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 })

/** Return a sentence in the reader's language; `{name}` in it is replaced, `{n}` chooses its form. */
export function t(sentence, values = {}) {
  let found = sentences[sentence] ?? sentence
  if (typeof found === 'object') found = found[plural.select(values.n)] ?? found.other
  return found.replace(/\{(\w+)\}/g, (whole, name) =>
    typeof values[name] === 'number' ? number.format(values[name]) : values[name] ?? whole)
}

const bare = (text) => text.replace(/\.$/, '')
const WIDTHS = { reason: '.+?', address: '\\S+' }
/** Each pattern as an expression. What stands for a part of a sentence is within it, but for the reason that a person gave. */
const patterns = Object.entries(answers).map(([pattern, says]) => [new RegExp(`^${bare(pattern).replace(/[.*+?^$()|[\]\\]/g, '\\$&')
  .replace(/\{(\w+)\}/g, (whole, name) => `(?<${name}>${WIDTHS[name] ?? '(?:(?!\\. ).)+?'})`)}$`), bare(says)])
/** Parts of a pattern that the node says too; all others are names, numbers, and what persons wrote. */
const SAID_TOO = new Set(['who', 'why', 'what', 'progress'])

/** Return what the node said in the reader's language, sentence by sentence, where that is known; else as it is. */
export function said(text) {
  if (typeof text !== 'string' || !text || !patterns.length) return text
  for (const [pattern, says] of patterns) {
    const found = pattern.exec(bare(text))
    if (found) {
      const shown = says.replace(/\{(\w+)\}/g, (whole, name) => SAID_TOO.has(name) ? said(found.groups[name]) : found.groups[name])
      return text.endsWith('.') ? `${shown}.` : shown
    }
  }
  const parts = text.split(/(?<=[.!?]) (?=\S)/)
  return parts.length > 1 ? parts.map(said).join(' ') : text
}

/** Return a number of bytes as people say it. */
export function bytes(size) {
  let unit = 0
  while (size >= 1000 && unit < 5) { size /= 1000; unit += 1 }
  return `${number.format(size >= 100 ? Math.round(size) : size)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][unit]}`
}

/** Return seconds as people say them: `40 s`, `5 min`, `2 h`, `3 d`. */
export function span(seconds) {
  for (const [length, unit] of [[86400, 'd'], [3600, 'h'], [60, 'min']]) {
    if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`
  }
  if (seconds < 0.1) return `< ${number.format(0.1)} s`
  return `${seconds < 10 ? number.format(seconds) : Math.round(seconds)} s`
}

/** Of English, in which a hospital may write the day or the month first: the one order that all read alike. */
const calendar = language === 'en' ? 'sv' : language

/** Return a moment, in seconds since 1970, in the reader's time zone. */
export function moment(seconds, style = 'medium') {
  const two = '2-digit'
  const shown = { year: 'numeric', month: two, day: two, hour: two, minute: two, ...(style === 'short' ? {} : { second: two }) }
  return new Date(seconds * 1000).toLocaleString(calendar, shown)
}

export const count = (value) => number.format(value)

/** Return DA (and TM) of DICOM as a person reads them; what is no date stays as it is. */
export function day(DA, TM = '') {
  const [, year, month, date] = /^(\d{4})(\d\d)(\d\d)$/.exec(DA ?? '') ?? []
  if (!year) return DA ?? ''
  const shown = `${year}-${month}-${date}`
  return /^\d{4}/.test(TM) ? `${shown} ${TM.slice(0, 2)}:${TM.slice(2, 4)}` : shown
}

/** Return a Person Name as it is said: family name first, with a comma. */
export function person(PN) {
  const [family, given, middle, prefix, suffix] = String(PN ?? '').split('=')[0].split('^')
  const rest = [given, middle].filter(Boolean).join(' ')
  return [[prefix, family].filter(Boolean).join(' '), rest, suffix].filter(Boolean).join(', ')
}

/** Return a Patient ID with whose it is; one of another hospital says that itself, as ISSUER/ID. */
export function identity(PatientID, IssuerOfPatientID) {
  const isSaid = !IssuerOfPatientID || String(PatientID ?? '').startsWith(`${IssuerOfPatientID}/`)
  return [PatientID, !isSaid && `(${IssuerOfPatientID})`].filter(Boolean).join(' ')
}
