// Help: what to enter where, the addresses for programs, and the keys.

import { show } from './frame.js'
import { Facts, html } from './parts.js'
import { t, told } from './words.js'

function Help() {
  const here = location.origin
  const curl = `curl -H "Authorization: Bearer $TOKEN" "${here}/dicom-web/studies?PatientName=NOV*"`
  return html`<section class="card"><h2>${t('Addresses for programs')}</h2><${Facts} rows=${[
    ['DICOMweb', html`<code>${here}/dicom-web</code>`],
    [t('DICOMweb, all sites'), told.is_in_grid && html`<code>${here}/grid/dicom-web</code>`],
    ['REST', html`<a href="/openapi.json">${here}/openapi.json</a>`],
    [t('Open a study from another system'), html`<code>${here}/open/{StudyInstanceUID}</code>`],
    [t('Does it live, is it ready'), html`<a href="/livez">/livez</a> · <a href="/readyz">/readyz</a>`],
  ].filter(([, says]) => says)} /></section>
    <section class="card"><h2>${t('The same from a command line')}</h2><p>${t('A token is made by "peerpacs tokens make NAME"; it has rights, archives and an end.')}</p>
      <div class="commands"><pre><code>${curl}</code></pre></div></section>
    <section class="card"><h2>${t('Keys')}</h2><${Facts} rows=${[
    [html`<kbd>/</kbd>`, t('to the first field')], [html`<kbd>j</kbd> <kbd>k</kbd>`, t('next and previous row')], [html`<kbd>o</kbd>`, t('open the row')],
    [t('In the quick look'), html`<kbd>↑</kbd> <kbd>↓</kbd> <kbd>PgUp</kbd> <kbd>PgDn</kbd> <kbd>1</kbd>–<kbd>4</kbd> <kbd>i</kbd> <kbd>r</kbd> <kbd>+</kbd> <kbd>−</kbd>`],
  ]} /></section>
    <section class="card"><h2>${t('Not for diagnosis')}</h2><p>${t('The quick look shows what is there. It is no medical device, and the screen is none either: reports are made at a workstation that is meant for it.')}</p></section>`
}

show(t('Help'), Help)
