"""Crates from a path."""

from .case import Case, Completes, Displays, Fails, Group, Shows
from .output import CARD

TALLY = ':dep tally = { path = "FOLDER/tally" }'
SECOND = ':dep second-crate = { path = "FOLDER/second-crate" }'

CRATES = Group("Crates", [
    Case("a path that doesn't exist fails", [':dep lost = { path = "FOLDER/absent" }'], Fails("Error", "absent")),
    Case("a failed :dep doesn't stop later cells", [(':dep lost = { path = "FOLDER/absent" }\n40', Fails("Error", "absent")), "41"], Shows("41")),
    Case("a crate of the registry that doesn't exist fails", [(':dep this_crate_is_nowhere = "77"', Fails("Error", "this_crate_is_nowhere"))], None),
    Case("a crate that doesn't compile fails", [':dep broken = { path = "FOLDER/broken" }\nbroken::wrong()'], Fails("E0308", "mismatched types"), differs="evcxr_jupyter gives no code"),
    Case("a feature that doesn't exist fails", [':dep tally = { path = "FOLDER/tally", features = ["no_such_feature"] }'], Fails("Error", "no_such_feature")),
    Case("two crates and code in one cell", [f"{TALLY}\n{SECOND}\ntally::store(5);\ntally::thirty() + second_crate::twelve()"], Shows("42")),
    Case("a static of a crate keeps its value", [f":allow_static_linking 0\n{TALLY}\ntally::store(765);", "tally::stored()"], Shows("765"), after=[":allow_static_linking 1"]),
    Case("a crate by its path alone", [":dep FOLDER/tally", "tally::thirty()"], Shows("30")),
    Case("a name with hyphens", [f"{SECOND}\nuse second_crate;\nsecond_crate::twelve()"], Shows("12")),
    Case("a macro of a crate", [SECOND, "second_crate::twice!(21)"], Shows("42")),
    Case("a use of a crate", [TALLY, "use tally::{thirty, Pile};", "(thirty(), Pile::of(&[1]))"], Shows("(30, Pile { things: [1] })")),
    Case("a variable of a crate's type", [TALLY, "let pile = tally::Pile::of(&[1, 2]);", "pile.things.len()"], Shows("2")),
    Case("extern crate", [TALLY, "extern crate tally;", "tally::thirty()"], Shows("30")),
    Case("extern crate with another name", [TALLY, "extern crate tally as count;", "count::thirty()"], Shows("30")),
    Case("a crate without :dep fails", ["tally::thirty()"], Fails("E0433", "tally")),
    Case("a feature of a crate", [':dep tally = { path = "FOLDER/tally", features = ["loud"] }', "tally::shout()"], Shows('"HEY"')),
    Case("a crate twice", [TALLY, TALLY, "tally::thirty()"], Shows("30")),
    Case(":show_deps lists crates", [TALLY, SECOND, ":show_deps"], Shows('second-crate = { path = "', True)),
    Case("completions know a crate", [TALLY, "tally::thirty();"], Completes("tally::Pile::o", ("of(things)",), (), "o")),
    Case("crates are gone after :clear", [TALLY, "tally::thirty();", ":clear", "tally::thirty()"], Fails("E0433", "tally")),
    Case("an await in a cell", ["async fn soon(n: u8) -> u8 { n + 1 }", "soon(3).await"], Shows("4"), limit=240),
    Case("evcxr_display of the first await", [CARD, "async fn drawn() -> Card { Card { n: 9 } }", "drawn().await"], Displays("text/html", "<b>9</b>"), limit=240),
    Case(":dep without a crate fails", [":dep"], Fails("Error", ":dep")),
], long=True)
