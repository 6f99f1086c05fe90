//! A text to words, numbers and single characters. Port of dateutil's `_timelex`.

use std::collections::VecDeque;

/// What the token being read may still take. The dotted ones are split afterwards.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Word,
    Number,
    DottedWord,
    DottedNumber,
}

pub(super) fn split(text: &str) -> Vec<String> {
    let mut chars: VecDeque<char> = text.chars().filter(|c| *c != '\0').collect();
    let mut tokens = Vec::new();
    while let Some(first) = chars.pop_front() {
        let state = match first {
            c if c.is_alphabetic() => State::Word,
            c if c.is_ascii_digit() => State::Number,
            c => {
                tokens.push(if c.is_whitespace() { " ".to_owned() } else { c.to_string() });
                continue;
            }
        };
        read(first, state, &mut chars, &mut tokens);
    }
    tokens
}

fn read(first: char, mut state: State, chars: &mut VecDeque<char>, tokens: &mut Vec<String>) {
    let mut token = String::from(first);
    let mut seen_letters = false;
    while let Some(&c) = chars.front() {
        seen_letters |= matches!(state, State::Word | State::DottedWord);
        match next(state, c, &token) {
            Some(then) => state = then,
            None => break,
        }
        token.push(c);
        chars.pop_front();
    }
    let dots = token.matches('.').count();
    let dotted = matches!(state, State::DottedWord | State::DottedNumber);
    if dotted && (seen_letters || dots > 1 || token.ends_with(['.', ','])) {
        let parts = token.split_inclusive(['.', ',']).flat_map(|part| {
            let word = part.strip_suffix(['.', ',']).unwrap_or(part);
            [word, part.get(word.len()..).unwrap_or_default()]
        });
        let mut parts = parts.filter(|p| !p.is_empty());
        tokens.extend(parts.next().map(str::to_owned));
        tokens.extend(parts.map(str::to_owned));
    } else if state == State::DottedNumber && dots == 0 {
        tokens.push(token.replace(',', "."));
    } else {
        tokens.push(token);
    }
}

/// The state after one more character; `None` if it starts another token.
fn next(state: State, c: char, token: &str) -> Option<State> {
    let after_dot = token.ends_with('.');
    match state {
        State::Word if c.is_alphabetic() => Some(State::Word),
        State::Word if c == '.' => Some(State::DottedWord),
        State::Number if c.is_ascii_digit() => Some(State::Number),
        State::Number if c == '.' || (c == ',' && token.len() >= 2) => Some(State::DottedNumber),
        State::DottedWord if c == '.' || c.is_alphabetic() => Some(State::DottedWord),
        State::DottedWord if c.is_ascii_digit() && after_dot => Some(State::DottedNumber),
        State::DottedNumber if c == '.' || c.is_ascii_digit() => Some(State::DottedNumber),
        State::DottedNumber if c.is_alphabetic() && after_dot => Some(State::DottedWord),
        _ => None,
    }
}
