//! The items of a cell that have no name: implementations, blocks of foreign items, and constants named `_`.

use std::collections::HashSet;

use ra_ap_syntax::ast::{self, AstNode, HasGenericParams, HasName};
use ra_ap_syntax::{NodeOrToken, SyntaxNode, SyntaxToken};

/// An item without a name.
#[derive(Clone, Debug)]
pub struct UnnamedItem {
    /// Equal for two items if the later one replaces the earlier one or its members of the same name.
    pub key: String,
    /// The text before the members, or all of it, in one line.
    pub head: String,
    /// Name and text of the members that a later item can replace one by one. `None` for an item that is replaced as a
    /// whole.
    members: Option<Vec<(String, String)>>,
    /// How many lines of source the item has.
    pub lines: usize,
    /// The named item of the same cell to which this one belongs.
    pub owner: Option<String>,
}

impl UnnamedItem {
    /// Reads an item. `None` if it has a name. `defined` holds the names that the cell defines.
    pub fn new(item: &ast::Item, defined: &HashSet<String>) -> Option<Self> {
        let (key, list, members, owner) = match item {
            ast::Item::Impl(it) => {
                let parameters = generic_parameters(it);
                let (of_trait, for_type) = (it.trait_(), it.self_ty()?);
                let mut key = normalized(for_type.syntax(), &parameters);
                let mut owner = first_of(for_type.syntax(), defined);
                let list = it.assoc_item_list()?;
                let mut members = Some(list.assoc_items().map(|it| member(it.syntax())).collect());
                if let Some(of_trait) = of_trait {
                    key = format!("{} for {key}", normalized(of_trait.syntax(), &parameters));
                    owner = owner.or_else(|| first_of(of_trait.syntax(), defined));
                    members = None;
                }
                (format!("impl {key}"), Some(list.syntax().clone()), members, owner)
            }
            ast::Item::ExternBlock(it) => {
                let list = it.extern_item_list()?;
                let members = list.extern_items().map(|it| member(it.syntax())).collect();
                let key = it.abi().map_or(String::new(), |abi| normalized(abi.syntax(), &[]));
                (format!("extern {key}"), Some(list.syntax().clone()), Some(members), None)
            }
            ast::Item::Const(it) if it.name().is_none() => (normalized(it.syntax(), &[]), None, None, None),
            _ => return None,
        };
        let code = tokens(item.syntax());
        let head = code
            .iter()
            .take_while(|it| list.as_ref().is_none_or(|list| !list.text_range().contains_range(it.text_range())));
        let lines = item.syntax().text().to_string().trim_start().lines().count();
        Some(UnnamedItem { key, head: one_line(head), members, lines, owner })
    }

    /// Returns what remains of the item beside newer ones of the same key. `None` if nothing remains.
    pub fn beside<'a>(&self, newer: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut rest = self.clone();
        for newer in newer.filter(|newer| newer.key == self.key) {
            let (members, replaced) = rest.members.as_mut().zip(newer.members.as_ref())?;
            members.retain(|(name, _)| replaced.iter().all(|(other, _)| other != name));
            if members.is_empty() {
                return None;
            }
        }
        Some(rest)
    }

    pub fn has_as_many_members_as(&self, other: &Self) -> bool {
        self.members.as_ref().map(Vec::len) == other.members.as_ref().map(Vec::len)
    }

    /// Returns the item's source, without its comments.
    pub fn text(&self) -> String {
        match &self.members {
            None => self.head.clone(),
            Some(members) => {
                let members: Vec<&str> = members.iter().map(|(_, text)| text.as_str()).collect();
                format!("{} {{ {} }}", self.head, members.join(" "))
            }
        }
    }
}

/// Returns the name of an item. `None` if it has none.
pub fn name(item: &ast::Item) -> Option<String> {
    let name = match item {
        ast::Item::Const(it) => it.name(),
        ast::Item::Enum(it) => it.name(),
        ast::Item::Fn(it) => it.name(),
        ast::Item::MacroRules(it) => it.name(),
        ast::Item::MacroDef(it) => it.name(),
        ast::Item::Module(it) => it.name(),
        ast::Item::Static(it) => it.name(),
        ast::Item::Struct(it) => it.name(),
        ast::Item::Trait(it) => it.name(),
        ast::Item::TypeAlias(it) => it.name(),
        ast::Item::Union(it) => it.name(),
        _ => None,
    };
    name.map(|name| name.to_string())
}

/// Returns the tokens of a node, without white space and comments.
pub fn tokens(node: &SyntaxNode) -> Vec<SyntaxToken> {
    let tokens = node.descendants_with_tokens().filter_map(NodeOrToken::into_token);
    tokens.filter(|token| !token.kind().is_trivia()).collect()
}

fn generic_parameters(item: &ast::Impl) -> Vec<String> {
    let parameters = item.generic_param_list().into_iter().flat_map(|list| list.generic_params());
    let name = |parameter| match parameter {
        ast::GenericParam::TypeParam(it) => it.name().map(|it| it.to_string()),
        ast::GenericParam::ConstParam(it) => it.name().map(|it| it.to_string()),
        ast::GenericParam::LifetimeParam(it) => it.lifetime().map(|it| it.to_string()),
    };
    parameters.filter_map(name).collect()
}

/// Returns the tokens of a node. Numbers stand for generic parameters, whose names don't matter.
fn normalized(node: &SyntaxNode, parameters: &[String]) -> String {
    let token = |token: &SyntaxToken| match parameters.iter().position(|name| name == token.text()) {
        Some(number) => format!("#{number}"),
        None => token.text().to_string(),
    };
    tokens(node).iter().map(token).collect::<Vec<_>>().join(" ")
}

/// Returns the first name in a node that is among the given ones.
fn first_of(node: &SyntaxNode, names: &HashSet<String>) -> Option<String> {
    tokens(node).iter().map(|token| token.text().to_string()).find(|name| names.contains(name))
}

/// Returns name and text of an item within braces. The text of a macro call stands for its name.
fn member(node: &SyntaxNode) -> (String, String) {
    let text = one_line(tokens(node).iter());
    let name = node.children().find_map(ast::Name::cast);
    (name.map_or_else(|| text.clone(), |name| name.to_string()), text)
}

/// Joins tokens. Spaces stand for white space and comments.
fn one_line<'a>(tokens: impl Iterator<Item = &'a SyntaxToken>) -> String {
    let mut text = String::new();
    for token in tokens {
        let spaced = token.prev_token().is_some_and(|before| before.kind().is_trivia());
        if spaced && !text.is_empty() {
            text.push(' ');
        }
        text += token.text();
    }
    text
}
