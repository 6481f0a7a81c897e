//! Tokens to trees: the grammar of actions, pipelines and control structures.
//!
//! Compat: Go `text/template/parse`, `Tree` (messages included).

use std::fmt;
use std::sync::Arc;

use model::quote::go_quote;

use super::exec::grown;
use super::lex::{Kind, Token, lex};
use super::{DEPTH_MAX, Error, Functions};

/// One template of a [`Set`](super::Set).
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    /// The name and the text of what it was parsed from: positions count in there.
    pub(super) parse_name: Arc<str>,
    pub(super) source: Arc<str>,
    pub(super) list: Vec<Node>,
}

impl Tree {
    /// Whether it prints nothing but blanks; such a tree does not replace another of its name.
    pub(super) fn is_empty(&self) -> bool {
        self.list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(Call),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) list: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) pos: usize,
    pub(super) name: String,
    pub(super) pipe: Option<Pipe>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) pos: usize,
    pub(super) is_assign: bool,
    pub(super) decl: Vec<String>,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) pos: usize,
    /// Never empty.
    pub(super) args: Vec<Expr>,
}

#[derive(Debug)]
pub(super) struct Expr {
    pub(super) pos: usize,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Dot,
    Nil,
    Bool(bool),
    /// A number is whole, broken or both (`1.0` fits an int parameter, `1` a float one).
    Number {
        int: Option<i64>,
        float: Option<f64>,
        text: String,
    },
    Str {
        value: Arc<str>,
        text: String,
    },
    Field(Vec<String>),
    /// The name with its `$`, then fields.
    Variable(Vec<String>),
    Chain(Box<Expr>, Vec<String>),
    Ident(String),
    Pipe(Pipe),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        grown(|| self.print(f))
    }
}

impl Pipe {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            write!(f, "{} {} ", self.decl.join(", "), if self.is_assign { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            match &arg.kind {
                ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{arg}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Dot => f.write_str("."),
            ExprKind::Nil => f.write_str("nil"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Number { text, .. } | ExprKind::Str { text, .. } | ExprKind::Ident(text) => {
                f.write_str(text)
            }
            ExprKind::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            ExprKind::Variable(names) => f.write_str(&names.join(".")),
            ExprKind::Chain(base, names) => {
                match &base.kind {
                    ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{base}")?,
                }
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            ExprKind::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", go_quote(self.name.as_bytes()))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

/// Parses `text` and returns its own tree and those it defines.
pub(super) fn parse(name: &str, text: &str, functions: &dyn Functions) -> Result<Vec<Tree>, Error> {
    let mut parser = Parser {
        parse_name: name.into(),
        source: text.into(),
        tokens: lex(text),
        next: 0,
        last_line: 1,
        last_pos: 0,
        action_line: None,
        vars: vec!["$".to_owned()],
        range_depth: 0,
        nesting: 0,
        functions,
        trees: Vec::new(),
    };
    let mut list = Vec::new();
    loop {
        let token = parser.peek();
        match token.kind {
            Kind::Eof => break,
            Kind::LeftDelim => {
                let start = parser.next;
                parser.take();
                if parser.take_word().is_keyword("define") {
                    parser.definition()?;
                    continue;
                }
                parser.next = start;
            }
            _ => {}
        }
        match parser.text_or_action()? {
            Item::Node(node) => list.push(node),
            end => return parser.fail(format!("unexpected {}", end.display())),
        }
    }
    parser.add(name.to_owned(), list)?;
    Ok(parser.trees)
}

/// What an action turned out to be.
enum Item {
    Node(Node),
    End,
    Else,
}

impl Item {
    fn display(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

struct Parser<'t> {
    parse_name: Arc<str>,
    source: Arc<str>,
    tokens: Vec<Token<'t>>,
    next: usize,
    last_line: usize,
    last_pos: usize,
    action_line: Option<usize>,
    vars: Vec<String>,
    range_depth: usize,
    nesting: usize,
    functions: &'t dyn Functions,
    trees: Vec<Tree>,
}

impl<'t> Parser<'t> {
    // === Tokens ===

    fn peek(&mut self) -> Token<'t> {
        let token = self.tokens[self.next.min(self.tokens.len() - 1)].clone();
        self.last_line = token.line;
        self.last_pos = token.pos;
        token
    }

    fn take(&mut self) -> Token<'t> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn peek_word(&mut self) -> Token<'t> {
        self.skip_space();
        self.peek()
    }

    fn take_word(&mut self) -> Token<'t> {
        self.skip_space();
        self.take()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'t>, Error> {
        let token = self.take_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn fail<T>(&self, message: impl fmt::Display) -> Result<T, Error> {
        let reason = message.to_string();
        let place = &self.source.as_bytes()[..self.last_pos.min(self.source.len())];
        let column = place.len() - memchr::memrchr(b'\n', place).map_or(0, |newline| newline + 1);
        Err(Error {
            text: format!("template: {}:{}: {reason}", self.parse_name, self.last_line),
            place: Some((self.last_line, column + 1, reason)),
        })
    }

    fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Result<T, Error> {
        if token.kind != Kind::Error {
            return self.fail(format_args!("unexpected {} in {context}", token.display()));
        }
        match self.action_line {
            Some(line) if line != token.line => {
                let link = if token.text.ends_with(" action") { "" } else { " in action" };
                self.fail(format_args!("{}{link} started at {}:{line}", token.text, self.parse_name))
            }
            _ => self.fail(&token.text),
        }
    }

    fn descend(&mut self, message: &str) -> Result<(), Error> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX { self.fail(message) } else { Ok(()) }
    }

    // === Templates ===

    fn add(&mut self, name: String, list: Vec<Node>) -> Result<(), Error> {
        let tree =
            Tree { name, parse_name: Arc::clone(&self.parse_name), source: Arc::clone(&self.source), list };
        match self.trees.iter_mut().find(|other| other.name == tree.name) {
            None => self.trees.push(tree),
            Some(other) if other.is_empty() => *other = tree,
            Some(_) if tree.is_empty() => {}
            Some(_) => {
                let name = go_quote(tree.name.as_bytes());
                return self.fail(format_args!("template: multiple definition of template {name}"));
            }
        }
        Ok(())
    }

    fn definition(&mut self) -> Result<(), Error> {
        const CONTEXT: &str = "define clause";
        let token = self.take_word();
        let name = self.template_name(&token, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        self.body(name, CONTEXT)
    }

    /// The list of a template of its own, up to its `end`.
    fn body(&mut self, name: String, context: &str) -> Result<(), Error> {
        let vars = std::mem::replace(&mut self.vars, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (list, end) = self.item_list()?;
        self.vars = vars;
        self.range_depth = ranges;
        if !matches!(end, Item::End) {
            return self.fail(format_args!("unexpected {} in {context}", end.display()));
        }
        self.add(name, list)
    }

    fn template_name(&mut self, token: &Token<'t>, context: &str) -> Result<String, Error> {
        match token.kind {
            Kind::Str | Kind::RawStr => match unquote(&token.text) {
                Some(name) => Ok(name),
                None => self.fail("invalid syntax"),
            },
            _ => self.unexpected(token, context),
        }
    }

    fn text_or_action(&mut self) -> Result<Item, Error> {
        let token = self.take_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.into_owned()))),
            Kind::LeftDelim => {
                self.action_line = Some(token.line);
                let item = self.action()?;
                self.action_line = None;
                Ok(item)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn item_list(&mut self) -> Result<(Vec<Node>, Item), Error> {
        grown(|| self.items())
    }

    fn items(&mut self) -> Result<(Vec<Node>, Item), Error> {
        self.descend("max nesting depth exceeded")?;
        let mut list = Vec::new();
        while self.peek_word().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => list.push(node),
                end => {
                    self.nesting -= 1;
                    return Ok((list, end));
                }
            }
        }
        self.fail("unexpected EOF")
    }

    fn action(&mut self) -> Result<Item, Error> {
        let token = self.take_word();
        if token.kind != Kind::Keyword {
            self.next -= 1;
            return Ok(Item::Node(Node::Action(self.pipeline("command", Kind::RightDelim)?)));
        }
        let node = match &*token.text {
            "block" => {
                const CONTEXT: &str = "block clause";
                let token = self.take_word();
                let name = self.template_name(&token, CONTEXT)?;
                let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
                self.body(name.clone(), CONTEXT)?;
                Node::Template(Call { pos: token.pos, name, pipe: Some(pipe) })
            }
            word @ ("break" | "continue") => {
                let next = self.take_word();
                if next.kind != Kind::RightDelim {
                    return self.unexpected(&next, &format!("{{{{{word}}}}}"));
                }
                if self.range_depth == 0 {
                    return self.fail(format_args!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            "else" => {
                let next = self.peek_word();
                if !next.is_keyword("if") && !next.is_keyword("with") {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Item::Else);
            }
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::End);
            }
            "if" => Node::If(self.control("if")?),
            "range" => Node::Range(self.control("range")?),
            "with" => Node::With(self.control("with")?),
            "template" => {
                const CONTEXT: &str = "template clause";
                let token = self.take_word();
                let name = self.template_name(&token, CONTEXT)?;
                let pipe = if self.take_word().kind == Kind::RightDelim {
                    None
                } else {
                    self.next -= 1;
                    Some(self.pipeline(CONTEXT, Kind::RightDelim)?)
                };
                Node::Template(Call { pos: token.pos, name, pipe })
            }
            // `define` stands at the top level only.
            _ => return self.unexpected(&token, "command"),
        };
        Ok(Item::Node(node))
    }

    fn control(&mut self, context: &'static str) -> Result<Branch, Error> {
        self.descend("max nesting depth exceeded")?;
        let vars = self.vars.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let in_range = usize::from(context == "range");
        self.range_depth += in_range;
        let (list, end) = self.item_list()?;
        self.range_depth -= in_range;
        let otherwise = match end {
            Item::Else if context != "range" && self.peek_word().is_keyword(context) => {
                self.take();
                let branch = self.control(context)?;
                vec![if context == "if" { Node::If(branch) } else { Node::With(branch) }]
            }
            Item::Else => {
                let next = self.peek();
                if next.kind == Kind::Keyword {
                    return self.unexpected(&next, "input");
                }
                let (otherwise, end) = self.item_list()?;
                if !matches!(end, Item::End) {
                    return self.fail(format_args!("expected end; found {}", end.display()));
                }
                otherwise
            }
            _ => Vec::new(),
        };
        self.vars.truncate(vars);
        self.nesting -= 1;
        Ok(Branch { pipe, list, otherwise })
    }

    // === Pipelines ===

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, Error> {
        grown(|| self.piped(context, end))
    }

    fn piped(&mut self, context: &str, end: Kind) -> Result<Pipe, Error> {
        let mut pipe =
            Pipe { pos: self.peek_word().pos, is_assign: false, decl: Vec::new(), commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.take_word();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Ident
                | Kind::Number
                | Kind::Nil
                | Kind::RawStr
                | Kind::Str
                | Kind::Variable
                | Kind::LeftParen => {
                    self.next -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.fail(format_args!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(
                command.args[0].kind,
                ExprKind::Bool(_)
                    | ExprKind::Dot
                    | ExprKind::Nil
                    | ExprKind::Number { .. }
                    | ExprKind::Str { .. }
            ) {
                return self.fail(format_args!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(pipe)
    }

    /// `$a :=`, `$a =`, and in a range `$i, $a :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Error> {
        while self.peek_word().kind == Kind::Variable {
            let start = self.next;
            let name = self.take().text.into_owned();
            let next = self.take_word();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.is_assign = next.kind == Kind::Assign;
                    pipe.decl.push(name.clone());
                    self.vars.push(name);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    pipe.decl.push(name.clone());
                    self.vars.push(name);
                    if context != "range" || pipe.decl.len() > 1 {
                        return self.fail(format_args!("too many declarations in {context}"));
                    }
                    match self.peek_word().kind {
                        Kind::Variable | Kind::RightDelim | Kind::RightParen => {}
                        _ => return self.fail("range can only initialize variables"),
                    }
                }
                _ => {
                    self.next = start;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Error> {
        let mut command = Command { pos: self.peek_word().pos, args: Vec::new() };
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if command.args.is_empty() { self.fail("empty command") } else { Ok(command) }
    }

    fn operand(&mut self) -> Result<Option<Expr>, Error> {
        let Some(base) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(base));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.take().text[1..].to_owned());
        }
        let kind = match base.kind {
            ExprKind::Field(mut names) => {
                names.append(&mut fields);
                ExprKind::Field(names)
            }
            ExprKind::Variable(mut names) => {
                names.append(&mut fields);
                ExprKind::Variable(names)
            }
            ExprKind::Bool(_)
            | ExprKind::Str { .. }
            | ExprKind::Number { .. }
            | ExprKind::Nil
            | ExprKind::Dot => {
                let term = go_quote(base.to_string().as_bytes());
                return self.fail(format_args!("unexpected . after term {term}"));
            }
            ExprKind::Ident(_) | ExprKind::Pipe(_) | ExprKind::Chain(..) => {
                ExprKind::Chain(Box::new(base), fields)
            }
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Expr>, Error> {
        let token = self.take_word();
        let kind = match token.kind {
            Kind::Ident => {
                if !super::builtin::is_known(&token.text, self.functions) {
                    let name = go_quote(token.text.as_bytes());
                    return self.fail(format_args!("function {name} not defined"));
                }
                ExprKind::Ident(token.text.into_owned())
            }
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Variable => {
                if !self.vars.iter().any(|name| *name == token.text) {
                    let name = go_quote(token.text.as_bytes());
                    return self.fail(format_args!("undefined variable {name}"));
                }
                ExprKind::Variable(vec![token.text.into_owned()])
            }
            Kind::Field => ExprKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Number => match number(&token.text) {
                Ok((int, float)) => ExprKind::Number { int, float, text: token.text.into_owned() },
                Err(message) => return self.fail(message),
            },
            Kind::LeftParen => {
                self.descend("max expression depth exceeded")?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.nesting -= 1;
                ExprKind::Pipe(pipe)
            }
            Kind::Str | Kind::RawStr => match unquote(&token.text) {
                Some(value) => ExprKind::Str { value: value.into(), text: token.text.into_owned() },
                None => return self.fail("invalid syntax"),
            },
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, kind }))
    }
}

/// The value of a Go number or character constant, as an integer and as a float where it is one.
/// Neither for whole numbers beyond an `int` that are within an unsigned one.
fn number(text: &str) -> Result<(Option<i64>, Option<f64>), String> {
    let illegal = || format!("illegal number syntax: {}", go_quote(text.as_bytes()));
    if text.starts_with('\'') {
        let body = &text[1..text.len() - 1];
        let c = match body {
            "\\'" => Some("'".to_owned()),
            "\\\"" => None,
            body => unquote(&format!("\"{}\"", body.replace('"', "\\\""))),
        };
        let c = c.filter(|c| !c.is_empty()).ok_or_else(|| "invalid syntax".to_owned())?;
        let mut chars = c.chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok((Some(i64::from(u32::from(c))), Some(f64::from(u32::from(c))))),
            _ => Err(format!("malformed character constant: {text}")),
        };
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = without_underscores(digits).ok_or_else(illegal)?;
    let radix = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => Some((16, 2)),
        [b'0', b'o' | b'O', ..] => Some((8, 2)),
        [b'0', b'b' | b'B', ..] => Some((2, 2)),
        [b'0', rest @ ..] if !rest.is_empty() && rest.iter().all(u8::is_ascii_digit) => Some((8, 1)),
        _ => None,
    };
    let signed = |v: f64| if negative { -v } else { v };
    let whole = |v: u64| {
        let v = if negative { -i128::from(v) } else { i128::from(v) };
        match i64::try_from(v) {
            Ok(int) => Ok((Some(int), Some(int as f64))),
            // It is a number, but none of the type that constants have.
            Err(_) if v > 0 => Ok((None, None)),
            Err(_) => Err(format!("integer overflow: {}", go_quote(text.as_bytes()))),
        }
    };
    if let Some((radix, prefix)) = radix {
        if radix == 16 && plain.contains(['p', 'P']) {
            let v = signed(hex_float(&plain[2..]).ok_or_else(illegal)?);
            return Ok((exact(v), Some(v)));
        }
        return match u64::from_str_radix(&plain[prefix..], radix) {
            Ok(v) => whole(v),
            Err(_) if radix == 8 && prefix == 1 => {
                Err(format!("integer overflow: {}", go_quote(text.as_bytes())))
            }
            Err(_) => Err(illegal()),
        };
    }
    if plain.bytes().all(|b| b.is_ascii_digit()) && !plain.is_empty() {
        let v = plain.parse().map_err(|_| format!("integer overflow: {}", go_quote(text.as_bytes())))?;
        return whole(v);
    }
    let starts = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let v: f64 = plain.parse().ok().filter(|v: &f64| starts && v.is_finite()).ok_or_else(illegal)?;
    let v = signed(v);
    Ok((exact(v), Some(v)))
}

/// A broken literal with a whole value fits an integer parameter too.
fn exact(v: f64) -> Option<i64> {
    let is_exact = v.trunc() == v && v.abs() < 9.2e18;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
    is_exact.then_some(v as i64)
}

/// The digits alone; underscores stand between digits or behind the prefix of a base.
pub(super) fn without_underscores(digits: &str) -> Option<String> {
    if !digits.contains('_') {
        return Some(digits.to_owned());
    }
    let has_base = matches!(digits.as_bytes(), [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    let is_octal = digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !has_base && !is_octal && digits.contains('_') && !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_hexdigit);
    let fits = digits.match_indices('_').all(|(at, _)| {
        let after_base = has_base && at == 2;
        (after_base || is_digit(at.checked_sub(1))) && is_digit(Some(at + 1))
    });
    fits.then(|| digits.replace('_', ""))
}

/// The digits of a hexadecimal float, behind `0x`.
pub(super) fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut v = 0.0_f64;
    for c in whole.chars().chain(fraction.chars()).take(300) {
        v = v * 16.0 + f64::from(c.to_digit(16)?);
    }
    let scale = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    Some(v * 2.0_f64.powi(scale)).filter(|v| v.is_finite())
}

/// A Go string literal's value; `None` when an escape is wrong.
fn unquote(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let body = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (byte, wide) = match chars.next()? {
            'a' => (7, None),
            'b' => (8, None),
            'f' => (12, None),
            'n' => (b'\n', None),
            'r' => (b'\r', None),
            't' => (b'\t', None),
            'v' => (11, None),
            '\\' => (b'\\', None),
            '"' => (b'"', None),
            'x' => (u8::try_from(hex(&mut chars, 2)?).ok()?, None),
            'u' => (0, Some(hex(&mut chars, 4)?)),
            'U' => (0, Some(hex(&mut chars, 8)?)),
            c @ '0'..='7' => {
                let text: String = std::iter::once(c).chain(chars.by_ref().take(2)).collect();
                (u8::from_str_radix(&text, 8).ok().filter(|_| text.len() == 3)?, None)
            }
            _ => return None,
        };
        match wide {
            Some(code) => out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
            None => out.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn hex(chars: &mut std::str::Chars<'_>, n: usize) -> Option<u32> {
    let text: String = chars.take(n).collect();
    u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == n)
}
