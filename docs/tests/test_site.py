"""The built site in a real browser: `make docs-test`.

An audit report is looked at too, if SK_ADV_REPORT names one or the site has one.
"""

import os
from pathlib import Path

import pytest

LOOKS = [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")]
CLASS = "api/generated/sk_adv.linear_model.AdversarialLogisticRegression"
KINDS = {
    "landing page": "index",
    "guide page": "user_guide/attacks",
    "page with figures": "user_guide/linear_models",
    "API page": CLASS,
    "gallery": "gallery/index",
    "example": "gallery/paper/plot_path",
    "benchmarks": "benchmarks/index",
    "paper": "paper",
}

# What is wrong with a page, as the browser lays it out.
FAULTS = """async (isWide) => {
  document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager'; });
  const images = [...document.images];
  await Promise.all(images.map(image => image.complete || new Promise(done => {
    image.onload = image.onerror = done;
  })));
  const faults = images.filter(image => image.naturalWidth === 0).map(
    image => `missing image: ${image.src}`
  );
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    const wide = [...document.querySelectorAll('body *')].filter(
      element => element.getBoundingClientRect().right > width + 1
    );
    const tags = wide.slice(0, 3).map(element => element.outerHTML.slice(0, 90));
    faults.push(`wider than the window: ${tags}`);
  }
  // The theme lets the article scroll, so that what is too wide in it does not widen the page.
  const article = document.querySelector('.bd-article-container');
  if (article && article.scrollWidth > article.clientWidth + 1) {
    const end = article.getBoundingClientRect().left + article.clientWidth;
    const wide = [...article.querySelectorAll('*')].filter(
      element => element.getBoundingClientRect().right > end + 1
    );
    faults.push(`wider than the article: ${wide.slice(0, 3).map(e => e.outerHTML.slice(0, 90))}`);
  }
  const isShown = element => element.offsetParent !== null;
  for (const block of [...document.querySelectorAll('pre')].filter(isShown)) {
    if (block.scrollWidth <= block.clientWidth + 1) continue;
    const isCut = ['hidden', 'clip'].includes(getComputedStyle(block).overflowX);
    if (isWide || isCut) faults.push(`clipped code: ${block.innerText.slice(0, 60)}`);
  }
  const names = document.querySelectorAll('article :is(td, th, dl.simple > dt > strong)');
  for (const element of [...names].filter(isShown)) {
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.data.trim();
      if (!text || /[\\s\u200b/-]/.test(text)) continue;
      const range = document.createRange();
      range.selectNodeContents(texts.currentNode);
      const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
      if (lines.size > 1) faults.push(`a broken word: ${text}`);
    }
  }
  for (const signature of document.querySelectorAll('dt.sig')) {
    const text = signature.innerText;
    if (text.length > 800) faults.push(`signature of ${text.length} letters: ${text.slice(0, 60)}`);
  }
  for (const output of document.querySelectorAll('.sphx-glr-script-out pre')) {
    if (output.innerText.includes('site-packages') || output.innerText.includes('Warning: ')) {
      faults.push(`a warning: ${output.innerText.slice(0, 90)}`);
    }
  }
  return faults;
}"""

# The contrast of each caption and paragraph with what lies behind it, as WCAG 2 defines it.
FAINT = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
    );
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const parts = 'article :is(p, td, th, li, figcaption, .caption-text, .sphx-glr-thumbnail-title)';
  for (const element of document.querySelectorAll(parts)) {
    const hasText = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!hasText || element.offsetParent === null) continue;
    const a = light(parse(getComputedStyle(element).color)), b = light(behind(element));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(1)}: ${element.innerText.slice(0, 60)}`);
  }
  return faint;
}"""


def pages(folder):
    """All pages of the site, but the listings of the source."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*.html")))
    return [
        str(path.with_suffix("")) for path in found if path.parts[0] not in ("_modules", "_static")
    ]


def reports(folder):
    """The audit reports to look at."""
    given = os.environ.get("SK_ADV_REPORT")
    if given:
        return [Path(given)]
    return [
        path for path in folder.rglob("*.html") if "audit" in path.stem and "_static" in str(path)
    ]


@pytest.mark.parametrize(("width", "theme"), LOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_page_fits_and_can_be_read(kind, width, theme, site, open_page):
    page = open_page(width, theme)
    errors, elsewhere = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: elsewhere.append(request.url) if not request.url.startswith(site) else None,
    )
    page.goto(f"{site}/{KINDS[kind]}.html")
    assert page.locator("html").get_attribute("data-theme") == theme
    assert page.evaluate(FAULTS, width >= 1400) == []
    assert page.evaluate(FAINT) == []
    assert errors == []
    assert [url for url in elsewhere if not url.startswith("data:")] == []


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (400, "dark")])
def test_every_page_fits(width, theme, site, folder, open_page):
    page, faults = open_page(width, theme), {}
    for name in pages(folder):
        page.goto(f"{site}/{name}.html")
        found = page.evaluate(FAULTS, width >= 1400)
        if found:
            faults[name] = found
    assert faults == {}


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_audit_report_fits(width, theme, folder, serve, open_page):
    if not reports(folder):
        pytest.skip("there is no report: let SK_ADV_REPORT name one")
    for path in reports(folder):
        address = serve(path.resolve().parent)
        page = open_page(width, theme)
        elsewhere = []
        page.on("request", lambda request, urls=elsewhere: urls.append(request.url))
        page.goto(f"{address}/{path.name}")
        assert page.evaluate(FAULTS, width >= 1400) == []
        # One file: nothing else is asked for.
        assert [url for url in elsewhere[1:] if not url.startswith("data:")] == []


@pytest.mark.parametrize("words", ["xgboost", "cluster", "which columns"])
def test_search_finds(words, site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/search.html?q={words.replace(' ', '+')}")
    results = page.locator("#search-results ul.search li a")
    results.first.wait_for(timeout=20_000)
    page.locator("#search-results .search-summary", has_text="found").first.wait_for()
    assert results.count() > 0
    # The first results are pages of the site.
    assert page.goto(results.first.evaluate("link => link.href")).ok


def test_page_of_a_class_shows_what_it_inherits(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/{CLASS}.html")
    own = page.locator("dl.method > dt.sig")
    assert any("predict_proba(" in text for text in own.all_inner_texts())
    listed = page.locator("div.inherited-members td a").all_inner_texts()
    assert {"get_params", "set_params"} <= set(listed)
    # A signature says the names and defaults; the types stand with the parameters.
    for text in page.locator("dt.sig").all_inner_texts():
        assert "Union" not in text
        assert len(text) < 500


def test_names_of_scikit_learn_are_links_to_its_pages(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/{CLASS}.html")
    url = (
        "https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.LogisticRegression"
    )
    assert page.locator(f"article a[href^='{url}']").count() > 0


def test_page_of_a_class_shows_examples_that_use_it(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/{CLASS}.html")
    assert page.locator(".sphx-glr-thumbcontainer").count() >= 2


def test_copied_session_is_code_that_prints_what_the_page_shows(site, open_page):
    page = open_page(1400, "light", permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{site}/user_guide/getting_started.html")
    blocks = page.locator("article div.highlight:has(span.gp)")
    assert blocks.count() > 5
    for index in range(blocks.count()):
        block = blocks.nth(index)
        block.hover()
        block.locator("button.copybtn").click()
        code = page.evaluate("navigator.clipboard.readText()")
        assert ">>>" not in code
        compile(code, "<copied>", "exec")
        # At most one value is shown, and it belongs to the last line of the code.
        prompts = block.locator("pre").inner_text().split("\n")
        shown = [i for i, line in enumerate(prompts) if line and line[:3] not in (">>>", "...")]
        if shown and "print(" not in code:
            assert all(line[:3] not in (">>>", "...") for line in prompts[shown[0] :])


def test_table_of_the_paper_is_folded_below_its_summary(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/paper.html")
    table = page.locator("details table").first
    assert not table.is_visible()
    page.locator("details > summary").first.click()
    assert table.is_visible()
    assert page.locator("article strong", has_text="rows agree with the paper").is_visible()


def test_gallery_runs_from_first_steps_to_the_paper(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/gallery/index.html")
    titles = page.locator("article h2").all_inner_texts()
    titles = [title.rstrip("#").strip() for title in titles]
    assert titles[0] == "First steps"
    assert titles[-1] == "From the paper"


def test_site_has_its_sign_and_its_source(site, open_page):
    page = open_page(1400, "light")
    page.goto(f"{site}/{CLASS}.html")
    icon = page.locator("link[rel~=icon]").get_attribute("href")
    assert page.request.get(f"{site}/{CLASS.rpartition('/')[0]}/{icon}").ok
    source = page.locator("a.reference", has=page.locator("text=[source]")).first
    assert page.goto(source.evaluate("link => link.href")).ok
