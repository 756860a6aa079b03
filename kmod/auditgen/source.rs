// SPDX-License-Identifier: GPL-2.0-only

//! A reader of C, as far as it takes to find a function, a structure or a macro in a file of the
//! kernel's and to compare its text.
//!
//! It knows tokens, comments, preprocessor lines and brackets, and no grammar beyond that. The text
//! of an item is its tokens with one space between, so that neither comments nor white space count.

/// Operators of more than one character, longer ones first.
const OPERATORS: [&str; 22] = [
    "...", "<<=", ">>=", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=",
    "-=", "*=", "/=", "%=", "&=", "|=", "^=",
];

/// A piece of C.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A name, a keyword or a number.
    Word(String),
    /// An operator, a bracket, or anything else of its own.
    Mark(String),
    /// A string or a character, with its quotes.
    Literal(String),
    /// A preprocessor line: its tokens.
    Directive(Vec<Token>),
}

impl Token {
    fn is(&self, mark: &str) -> bool {
        matches!(self, Token::Mark(text) if text == mark)
    }

    fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Adds its text to `out`.
    fn write(&self, out: &mut String) {
        match self {
            Token::Word(text) | Token::Mark(text) | Token::Literal(text) => out.push_str(text),
            Token::Directive(tokens) => {
                // On a line of its own, which no other token is.
                out.push_str("\n#");
                for token in tokens {
                    out.push(' ');
                    token.write(out);
                }
                out.push('\n');
            }
        }
    }

    fn mentions(&self, name: &str) -> bool {
        match self {
            Token::Word(word) => word == name,
            Token::Directive(tokens) => tokens.iter().any(|token| token.mentions(name)),
            _ => false,
        }
    }
}

fn text(tokens: &[Token]) -> String {
    let mut out = String::new();
    for token in tokens {
        if !out.is_empty() {
            out.push(' ');
        }
        token.write(&mut out);
    }
    out
}

struct Lexer<'a> {
    rest: &'a str,
    /// Nothing but white space came since the line began.
    fresh: bool,
}

impl<'a> Lexer<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Skips a comment, if one is next.
    fn comment(&mut self) -> Result<bool, String> {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
            return Ok(true);
        }
        if self.rest.starts_with("/*") {
            let end = self.rest.find("*/").ok_or("a comment does not end")?;
            self.take(end + 2);
            return Ok(true);
        }
        Ok(false)
    }

    fn literal(&mut self, quote: char) -> Result<Token, String> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == quote => return Ok(Token::Literal(self.take(at + 1).into())),
                _ => {}
            }
        }
        Err("a string or character does not end".into())
    }

    /// The next token that is not a directive.
    fn plain(&mut self, first: char) -> Result<Token, String> {
        if first == '"' || first == '\'' {
            return self.literal(first);
        }
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        if end > 0 {
            return Ok(Token::Word(self.take(end).into()));
        }
        let operator = OPERATORS.iter().find(|o| self.rest.starts_with(**o));
        let length = operator.map_or(first.len_utf8(), |o| o.len());
        Ok(Token::Mark(self.take(length).into()))
    }

    /// What follows a `#` at the beginning of a line.
    fn directive(&mut self) -> Result<Token, String> {
        let mut tokens = Vec::new();
        while let Some(first) = self.rest.chars().next() {
            if first == '\n' {
                break;
            }
            if self.comment()? {
                continue;
            }
            if first.is_whitespace() {
                self.take(first.len_utf8());
                continue;
            }
            // A message need not be made of tokens.
            if tokens.first().and_then(Token::word) == Some("error") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                tokens.push(Token::Literal(self.take(end).into()));
                break;
            }
            tokens.push(self.plain(first)?);
            // A macro with parameters is another thing than one whose text begins with a bracket.
            let names_macro =
                tokens.len() == 2 && tokens.first().and_then(Token::word) == Some("define");
            if names_macro && self.rest.starts_with('(') {
                tokens.push(Token::Mark("()".into()));
            }
        }
        Ok(Token::Directive(tokens))
    }

    fn next(&mut self) -> Result<Option<Token>, String> {
        while let Some(first) = self.rest.chars().next() {
            if self.comment()? {
                continue;
            }
            if first.is_whitespace() {
                self.fresh |= first == '\n';
                self.take(first.len_utf8());
                continue;
            }
            if first == '#' && self.fresh {
                self.take(1);
                return self.directive().map(Some);
            }
            self.fresh = false;
            return self.plain(first).map(Some);
        }
        Ok(None)
    }
}

/// Something that is defined or declared in a file.
struct Item {
    /// What it can be looked up by; empty for what only declares.
    names: Vec<String>,
    tokens: Vec<Token>,
}

/// A file of the kernel's, taken apart.
pub(crate) struct File {
    items: Vec<Item>,
}

impl File {
    /// Takes the text of a file apart.
    ///
    /// # Errors
    ///
    /// A comment, a string or a bracket does not end.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let joined = source.replace("\r\n", "\n").replace("\\\n", " ");
        let mut lexer = Lexer {
            rest: &joined,
            fresh: true,
        };
        let mut items = Vec::new();
        let mut item = Pending::default();
        // How deep it was where each condition began: all its branches begin as deep.
        let mut conditions = Vec::new();
        while let Some(token) = lexer.next()? {
            if let Token::Directive(line) = &token {
                match line.first().and_then(Token::word) {
                    Some("if" | "ifdef" | "ifndef") => conditions.push(item.depth),
                    Some("else" | "elif" | "elifdef" | "elifndef") => {
                        item.depth = *conditions.last().ok_or("#else without #if")?;
                    }
                    Some("endif") => {
                        conditions.pop().ok_or("#endif without #if")?;
                    }
                    _ => {}
                }
                if item.tokens.is_empty() {
                    items.extend(Item::of_line(token));
                } else {
                    item.tokens.push(token);
                }
                continue;
            }
            if item.add(token)? {
                items.extend(Item::of(core::mem::take(&mut item).tokens));
            }
        }
        if !item.tokens.is_empty() {
            return Err("the file ends in the middle of something".into());
        }
        Ok(Self { items })
    }

    /// The text of `what`: a function, a variable or a macro by its name, `struct name` (or `union`,
    /// `enum`), or `*name` for everything in the file that mentions `name`. Where it is defined
    /// more than once (behind `#ifdef`), the text has all of it. `None` if there is none.
    pub(crate) fn text(&self, what: &str) -> Option<String> {
        let is_meant = |item: &&Item| match what.strip_prefix('*') {
            Some(name) => item.tokens.iter().any(|token| token.mentions(name)),
            None => item.names.iter().any(|name| name == what),
        };
        let texts: Vec<String> = self
            .items
            .iter()
            .filter(is_meant)
            .map(|item| text(&item.tokens))
            .collect();
        (!texts.is_empty()).then(|| texts.join("\n\n"))
    }
}

/// An item that is being read.
#[derive(Default)]
struct Pending {
    tokens: Vec<Token>,
    depth: Depth,
}

/// Open brackets.
#[derive(Clone, Copy, Default)]
struct Depth {
    round: usize,
    curly: usize,
}

impl Pending {
    /// Adds a token; says whether it is the last one.
    fn add(&mut self, token: Token) -> Result<bool, String> {
        let depth = &mut self.depth;
        let mut ends = false;
        if let Token::Mark(mark) = &token {
            let open = |n: &mut usize| *n += 1;
            let close = |n: &mut usize| {
                *n = n
                    .checked_sub(1)
                    .ok_or("a bracket closes that was not open")?;
                Ok::<_, String>(())
            };
            match mark.as_str() {
                "(" | "[" => open(&mut depth.round),
                ")" | "]" => close(&mut depth.round)?,
                "{" => open(&mut depth.curly),
                "}" => close(&mut depth.curly)?,
                _ => {}
            }
            let outside = depth.round == 0 && depth.curly == 0;
            ends = outside && (mark == ";" || (mark == "}" && self.is_function()));
        }
        self.tokens.push(token);
        Ok(ends)
    }

    /// Whether the body that has just ended is that of a function: it follows the parameters, or
    /// what is said of the function behind them.
    fn is_function(&self) -> bool {
        let plain = self
            .tokens
            .iter()
            .filter(|t| !matches!(t, Token::Directive(_)));
        let head: Vec<&Token> = plain.take_while(|token| !token.is("{")).collect();
        !head.iter().any(|token| token.is("=")) && head.last().is_some_and(|token| token.is(")"))
    }
}

impl Item {
    /// The item of a preprocessor line; none if it defines no macro.
    fn of_line(line: Token) -> Option<Self> {
        let name = match &line {
            Token::Directive(tokens) => match &tokens[..] {
                [first, name, ..] if first.word() == Some("define") => name.word()?.to_owned(),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self {
            names: vec![name],
            tokens: vec![line],
        })
    }

    /// The item of these tokens; none of a single semicolon.
    fn of(tokens: Vec<Token>) -> Option<Self> {
        if tokens.len() < 2 {
            return None;
        }
        let names = names(&tokens);
        Some(Self { names, tokens })
    }
}

/// What the item made of `tokens` defines.
fn names(tokens: &[Token]) -> Vec<String> {
    let is_body = |token: &Token| token.is("{") || token.is("=");
    let Some(body) = tokens.iter().position(is_body) else {
        return Vec::new();
    };
    let head: Vec<&Token> = tokens[..body]
        .iter()
        .filter(|token| !matches!(token, Token::Directive(_)))
        .collect();
    // struct NAME {
    if let [.., kind, name] = head[..] {
        if let (Some(kind @ ("struct" | "union" | "enum")), Some(name)) = (kind.word(), name.word())
        {
            if tokens[body].is("{") {
                return vec![format!("{kind} {name}")];
            }
        }
    }
    let mut names = Vec::new();
    let mut depth = 0usize;
    for (at, token) in head.iter().enumerate() {
        if token.is("(") || token.is("[") {
            depth += 1;
            continue;
        }
        if token.is(")") || token.is("]") {
            depth = depth.saturating_sub(1);
            continue;
        }
        let Some(word) = token.word() else { continue };
        let next = head.get(at + 1);
        let ends = next.is_none_or(|next| next.is("(") || next.is("["));
        // NS(name)(parameters), NS(name) = …
        let is_made = depth == 1
            && head
                .get(at.wrapping_sub(1))
                .is_some_and(|before| before.is("("))
            && next.is_some_and(|next| next.is(")"))
            && head.get(at + 2).is_none_or(|next| next.is("("));
        if (depth == 0 && ends) || is_made {
            names.push(word.to_owned());
        }
    }
    names
}
