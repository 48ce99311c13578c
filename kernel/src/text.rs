//! Positions in a cell: Jupyter counts characters, evcxr bytes.

pub fn byte_of(code: &str, character: usize) -> usize {
    code.char_indices().nth(character).map_or(code.len(), |(byte, _)| byte)
}

pub fn character_of(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(start, _)| *start < byte).count()
}

/// "a", "a and b", "a, b and c".
pub fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_bytes() {
        let code = "let ä = \"🦀\"; x";
        assert_eq!(byte_of(code, 5), 6);
        assert_eq!(character_of(code, 6), 5);
        for character in 0..=code.chars().count() {
            assert_eq!(character_of(code, byte_of(code, character)), character);
        }
        assert_eq!(byte_of(code, 99), code.len());
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        let names = ["a", "b", "c"].map(String::from);
        assert_eq!(list(&names), "a, b and c");
        assert_eq!(list(&names[..2]), "a and b");
        assert_eq!(list(&names[..1]), "a");
    }
}
