from __future__ import annotations

from nnscan.report.markup import Html, element, joined


def test_text_cannot_become_markup() -> None:
    assert element("td", "<script>", title='"x"') == '<td title="&quot;x&quot;">&lt;script&gt;</td>'


def test_markup_stays() -> None:
    assert element("p", element("b", "1 & 2"), " > 0") == "<p><b>1 &amp; 2</b> &gt; 0</p>"
    assert joined([Html("<i>a</i>"), Html("<i>b</i>")]) == "<i>a</i>\n<i>b</i>"


def test_attributes_lose_their_underscores() -> None:
    told = element("input", class_="x", data_value=1.5, name="n", hidden=True, title=False)
    assert told == '<input class="x" data-value="1.5" name="n" hidden>'
