"""The page that `make ui` opens on, as text: what it says, and that nothing in it is believed."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from deimos.report import browse, figures, front_page, paper
from deimos.report.front_page import Card, Section

EVIL = '<script>alert("x")</script>'


def claims(**columns):
    """Verdicts as `verdicts.verdicts` gives them, a row for each entry of the columns."""
    n = max(map(len, columns.values()), default=0)
    rest = {"ours": "Random -0.01 [-0.02, -0.004]", "needs": ""}
    rest |= {"claim": "DEIMOS outperforms Random", "where": "Fig. 3 a", "outcome": "supported"}
    return pd.DataFrame({name: [value] * n for name, value in rest.items()} | columns)


def card(name="figure-3a", **changes):
    about = {
        "label": "Figure 3a",
        "title": "MNIST 7 vs 9",
        "picture": f"/figures/quick/{name}.png",
        "view": "/?mlflow#/experiments/1/runs?viewStateShareKey=figure-3a-quick",
        "notebook_page": "/notebooks/04.html",
        "notebook": "04",
        "claims": claims(outcome=["supported"]),
        "runs": {"DEIMOS": {"repeat 1": "/?mlflow#/experiments/1/runs/a"}},
    }
    return Card(name, **(about | changes))


def page(*cards, scale="quick", experiments=None, colours=None):
    sections = [Section(scale, "Your runs", "Of the paper's 1 claims: 1 supported.", cards)]
    return front_page.page(sections, experiments or {}, colours or {})


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.all = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))

    def addresses(self):
        return [a[key] for _, a in self.all for key in ("href", "src", "action") if key in a]


def test_a_card_has_its_picture_its_claims_and_the_ways_to_what_is_behind_it():
    text = page(card())
    for piece in (
        "Figure 3a",
        "MNIST 7 vs 9",
        "DEIMOS outperforms Random",
        "(Fig. 3 a",
        "repeat 1",
    ):
        assert piece in text
    addresses = Elements(text).addresses()
    shown = card()
    for address in (shown.picture, shown.view, shown.notebook_page, *shown.runs["DEIMOS"].values()):
        assert address in addresses


def test_a_claim_shows_its_outcome_our_numbers_and_what_is_missing():
    rows = claims(
        outcome=["supported", "undecided", "not tested"],
        ours=["Random -0.012 [-0.02, -0.004]", "Random +0.5 [-1, +2]", ""],
        needs=["", "Random: 12 repeats for the effect seen", "no runs"],
    )
    first, second, third = card(claims=rows).outcomes
    assert first["numbers"] == "Random -0.012 [-0.02, -0.004]"
    assert second["numbers"] == "Random +0.5 [-1, +2]; Random: 12 repeats for the effect seen"
    assert third["numbers"] == "no runs"
    text = page(card(claims=rows))
    classes = re.findall('class="outcome ([a-z-]+)">([a-z ]+)<', text)
    assert classes == [(o.replace(" ", "-"), o) for o in rows.outcome]
    assert front_page.front_summary(rows) == (
        "Of the paper's 3 claims: 1 supported, 1 undecided, 1 not tested."
    )


def test_no_text_of_the_record_becomes_a_part_of_the_page():
    rows = claims(claim=[EVIL], where=[EVIL])
    bad = card(label=EVIL, title=EVIL, claims=rows, notebook=EVIL, runs={EVIL: {EVIL: f'/"{EVIL}'}})
    text = page(bad, experiments={EVIL: "/"}, colours={EVIL: EVIL, "</script>": "red"})
    assert "alert" in text and EVIL not in text
    scripts = [tag for tag, _ in Elements(text).all if tag == "script"]
    assert len(scripts) == 2  # the colours and our own
    assert re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1].count("alert") == 0


def test_the_page_asks_nothing_of_any_other_machine():
    text = page(card(), experiments={"04": "/?mlflow#/experiments/1/runs"})
    assert all(
        a.startswith(("/", "#", "data:,")) and a[:2] != "//" for a in Elements(text).addresses()
    )
    assert not re.search(r"https?:|url\(|@import", text)


def test_the_page_is_for_phones_too_and_says_so_when_there_are_no_runs():
    viewport = [
        a for tag, a in Elements(page()).all if tag == "meta" and a.get("name") == "viewport"
    ]
    assert "width=device-width" in viewport[0]["content"]
    assert "make reproduce" in front_page.page([], {}, {})


def test_the_script_that_the_policy_allows_is_the_pages_own_whatever_stands_on_it():
    one, other = page(card(), colours={"a": "#123456"}), front_page.page([], {}, {})
    scripts = [re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1] for text in (one, other)]
    assert scripts[0] == scripts[1] and "experimentRunColors" in scripts[0]
    assert "script-src 'sha256-" in browse.policy() and "default-src 'none'" in browse.policy()


def test_every_claim_stands_with_a_figure_of_its_experiment_and_its_methods_if_one_has_them():
    for claim in paper.CLAIMS:
        subject = figures.FIGURES[browse.figure_of(claim)][2]
        assert subject["experiment"] == claim.experiment
        assert subject.get("batch_size", claim.batch_size) == claim.batch_size
    sampled = [claim for claim in paper.CLAIMS if "deimos_500" in claim.methods]
    assert {browse.figure_of(claim) for claim in sampled} == {"figure-3f"}


def test_no_two_methods_share_a_colour_and_each_has_that_of_our_figures():
    shades = browse.colours([])
    assert shades["tag.method.deimos"] == "#0173b2"  # the first of seaborn's "colorblind"
    assert len({*shades.values()}) == len(shades) == len(paper.NAMES)


@pytest.mark.parametrize(
    ("name", "label"),
    [("figure-2-left", "Figure 2 left"), ("figure-3a", "Figure 3a"), ("figure-A1", "Figure A1")],
)
def test_figures_are_called_as_their_saved_views_are(name, label):
    assert browse.label_of(name) == label
