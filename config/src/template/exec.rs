//! Trees and data to text.
//!
//! Compat: Go `text/template`, `state` (messages and positions included).

use std::fmt;
use std::time::Instant;

use model::quote::go_quote;

use super::html::{Called, Tracker};
use super::notification::RENDERED;
use super::parse::{Branch, Call, Command, Expr, ExprKind, Node, Pipe, Tree};
use super::time::Time;
use super::value::{self, Value};
use super::{
    DEPTH_MAX, Error, Functions, Mode, OUTPUT_MAX, Param, STEPS_MAX, Set, Signature, builtin, format,
};

/// Steps between two looks at the clock.
const STEPS_BETWEEN_CLOCKS: usize = 1024;

/// The size of a value that functions build: one for each item and for each 64 bytes of text.
const VALUE_WEIGHT_MAX: usize = OUTPUT_MAX / 64;
/// Lists within lists.
const VALUE_DEPTH_MAX: usize = 32;

/// Takes the weight of `value` from `left`; whether it sufficed.
fn weigh(value: &Value, left: &mut usize, depth: usize) -> bool {
    let own = match value {
        Value::Str(text) | Value::Safe(_, text) => 1 + text.len() / 64,
        _ => 1,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    let Some(depth) = depth.checked_sub(1) else { return false };
    match value {
        Value::List(_, items) => items.iter().all(|item| weigh(item, left, depth)),
        Value::Map(_, map) => map.values().all(|item| weigh(item, left, depth)),
        Value::Struct(_, fields) => fields.iter().all(|(_, item)| weigh(item, left, depth)),
        _ => true,
    }
}

/// Runs `f` with enough stack for another level of a template.
pub(super) fn grown<R>(f: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(256 << 10, 4 << 20, f)
}

/// Why evaluation of a list ended early.
enum Stop {
    Break,
    Continue,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is being evaluated, for messages.
#[derive(Clone, Copy)]
enum At<'t> {
    Expr(&'t Expr),
    Command(&'t Command),
    Pipe(&'t Pipe),
    Call(&'t Call),
}

impl At<'_> {
    fn pos(self) -> usize {
        match self {
            Self::Expr(expr) => expr.pos,
            Self::Command(command) => command.pos,
            Self::Pipe(pipe) => pipe.pos,
            Self::Call(call) => call.pos,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expr(expr) => expr.fmt(f),
            Self::Command(command) => command.fmt(f),
            Self::Pipe(pipe) => pipe.fmt(f),
            Self::Call(call) => call.fmt(f),
        }
    }
}

/// Runs the template `name` of `set` on `data`.
pub(super) fn execute(
    set: &Set,
    name: &str,
    data: &Value,
    functions: &dyn Functions,
    mode: Mode,
) -> Result<String, Error> {
    let Some(tree) = set.tree(name) else {
        let name = go_quote(name.as_bytes());
        return Err(Error::new(match mode {
            Mode::Text => format!("template: no template {name} associated with template {name}"),
            Mode::Html => format!("html/template: {name} is undefined"),
        }));
    };
    let mut run = Run {
        set,
        functions,
        tree,
        vars: vec![("$", data.clone())],
        at: None,
        out: String::new(),
        html: (mode == Mode::Html).then(Tracker::default),
        steps: 0,
        clock_at: STEPS_BETWEEN_CLOCKS,
        start: Instant::now(),
        depth: 0,
    };
    match run.list(data, &tree.list) {
        Err(Stop::Failed(error)) => Err(error),
        // The parser refuses `break` and `continue` outside a range.
        Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(run.out),
    }
}

struct Run<'t> {
    set: &'t Set,
    functions: &'t dyn Functions,
    tree: &'t Tree,
    vars: Vec<(&'t str, Value)>,
    at: Option<At<'t>>,
    out: String,
    html: Option<Tracker>,
    steps: usize,
    /// The step that looks at the clock.
    clock_at: usize,
    start: Instant,
    depth: usize,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the value piped in is handed on from function to function"
)]
impl<'t> Run<'t> {
    fn fail<T>(&self, message: impl fmt::Display) -> Result<T, Error> {
        let name = &self.tree.name;
        let Some(at) = self.at else { return Err(Error::new(format!("template: {name}: {message}"))) };
        let before = &self.tree.source.as_bytes()[..at.pos().min(self.tree.source.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let reason = format!("executing {} at <{at}>: {message}", go_quote(name.as_bytes()));
        Err(Error {
            text: format!("template: {}:{line}:{column}: {reason}", self.tree.parse_name),
            place: Some((line, column + 1, reason)),
        })
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return self.fail(format_args!("exceeded maximum number of steps ({STEPS_MAX})"));
        }
        if self.steps >= self.clock_at { self.check_clock() } else { Ok(()) }
    }

    fn check_clock(&mut self) -> Result<(), Error> {
        self.clock_at = self.steps + STEPS_BETWEEN_CLOCKS;
        let took = self.start.elapsed().saturating_sub(self.functions.waited());
        let max = self.functions.time_max();
        if took > max {
            return self.fail(format_args!("exceeded maximum execution time ({max:?})"));
        }
        Ok(())
    }

    /// Counts what a function made; what templates build up themselves must stay small and flat,
    /// since printing and dropping it walks all of it.
    fn charge(&mut self, value: &Value) -> Result<(), Error> {
        let mut left = VALUE_WEIGHT_MAX;
        let is_own = match value {
            Value::List(class, _) => *class == &value::ANYTHINGS,
            Value::Map(class, _) => *class == &value::ANY_MAP,
            Value::Str(_) | Value::Safe(..) => true,
            _ => false,
        };
        if is_own && !weigh(value, &mut left, VALUE_DEPTH_MAX) {
            return self.fail("value too large or too deep");
        }
        self.steps += VALUE_WEIGHT_MAX - left;
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format_args!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        Ok(())
    }

    // === Nodes ===

    fn list(&mut self, dot: &Value, list: &'t [Node]) -> Result<(), Stop> {
        grown(|| list.iter().try_for_each(|node| self.node(dot, node)))
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Result<(), Stop> {
        self.step()?;
        match node {
            Node::Text(text) => self.write_text(text)?,
            Node::Action(pipe) if pipe.decl.is_empty() => {
                let called = self.html.as_ref().and_then(|tracker| {
                    called_escaper(pipe, self.functions).filter(|called| tracker.covers(*called))
                });
                let value = match called {
                    Some(_) => self.unescaped(dot, pipe)?,
                    None => self.pipeline(dot, pipe)?,
                };
                self.write_value(pipe, &value, called)?;
            }
            Node::Action(pipe) => {
                self.pipeline(dot, pipe)?;
            }
            Node::If(branch) => self.branch(dot, branch, false)?,
            Node::With(branch) => self.branch(dot, branch, true)?,
            Node::Range(branch) => self.range(dot, branch)?,
            Node::Template(call) => self.call_template(dot, call)?,
            Node::Break => return Err(Stop::Break),
            Node::Continue => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn branch(&mut self, dot: &Value, branch: &'t Branch, moves_dot: bool) -> Result<(), Stop> {
        self.descend()?;
        let mark = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        if value.is_true() {
            self.list(if moves_dot { &value } else { dot }, &branch.list)?;
        } else {
            self.list(dot, &branch.otherwise)?;
        }
        self.vars.truncate(mark);
        self.depth -= 1;
        Ok(())
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<(), Stop> {
        self.descend()?;
        let outer = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        // The pipeline's own variables stay below the mark, the body's are dropped each time.
        let mark = self.vars.len();
        let depth = self.depth;
        let mut ran = false;
        let mut once = |run: &mut Self, index: Value, element: Value| -> Result<bool, Stop> {
            ran = true;
            run.step()?;
            run.bind(&branch.pipe, index, &element)?;
            let done = match run.list(&element, &branch.list) {
                Err(Stop::Break) => false,
                Ok(()) | Err(Stop::Continue) => true,
                Err(failed) => return Err(failed),
            };
            run.vars.truncate(mark);
            run.depth = depth;
            Ok(done)
        };
        match &value {
            Value::List(_, items) => {
                for (i, item) in items.iter().enumerate() {
                    if !once(self, i.into(), item.clone())? {
                        break;
                    }
                }
            }
            Value::Map(_, map) => {
                for (key, item) in map.iter() {
                    if !once(self, key.as_str().into(), item.clone())? {
                        break;
                    }
                }
            }
            Value::Int(n) | Value::Duration(n) | Value::Named(_, n) => {
                if branch.pipe.decl.len() > 1 {
                    self.fail(format_args!(
                        "can't use {} to iterate over more than one variable",
                        format::display(&value)
                    ))?;
                }
                for i in 0..*n {
                    let i = match &value {
                        Value::Duration(_) => Value::Duration(i),
                        Value::Named(integer, _) => Value::Named(integer, i),
                        _ => Value::Int(i),
                    };
                    if !once(self, i.clone(), i)? {
                        break;
                    }
                }
            }
            Value::Nil => {}
            other => self.fail(format_args!("range can't iterate over {}", format::display(other)))?,
        }
        if !ran {
            self.list(dot, &branch.otherwise)?;
        }
        self.vars.truncate(outer);
        self.depth -= 1;
        Ok(())
    }

    /// Gives the variables of a range their values for one round.
    fn bind(&mut self, pipe: &'t Pipe, index: Value, element: &Value) -> Result<(), Error> {
        let values = match pipe.decl.len() {
            0 => return Ok(()),
            1 => vec![element.clone()],
            _ => vec![index, element.clone()],
        };
        for (name, value) in pipe.decl.iter().zip(values) {
            self.set_variable(name, value)?;
        }
        Ok(())
    }

    fn call_template(&mut self, dot: &Value, call: &'t Call) -> Result<(), Stop> {
        self.at = Some(At::Call(call));
        let Some(tree) = self.set.tree(&call.name) else {
            let name = go_quote(call.name.as_bytes());
            return Ok(self.fail(format_args!("template {name} not defined"))?);
        };
        self.descend()?;
        let data = match &call.pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Value::Nil,
        };
        let caller = std::mem::replace(&mut self.tree, tree);
        let vars = std::mem::replace(&mut self.vars, vec![("$", data.clone())]);
        self.list(&data, &tree.list)?;
        self.vars = vars;
        self.tree = caller;
        self.depth -= 1;
        Ok(())
    }

    // === Output ===

    fn write_text(&mut self, text: &str) -> Result<(), Error> {
        match &mut self.html {
            None => self.out.push_str(text),
            Some(tracker) => tracker.write_text(&mut self.out, text),
        }
        self.check_size()
    }

    fn write_value(&mut self, pipe: &'t Pipe, value: &Value, called: Option<Called>) -> Result<(), Error> {
        self.at = Some(At::Pipe(pipe));
        match (&mut self.html, value) {
            (None, Value::Nil) => self.out.push_str("<no value>"),
            (None, value) => self.out.push_str(&format::display(value)),
            (Some(tracker), value) => tracker.write_value(&mut self.out, value, called),
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<(), Error> {
        let max = self.functions.output_max();
        if self.out.len() > max {
            return self.fail(format_args!("exceeded maximum output ({max} bytes)"));
        }
        Ok(())
    }

    // === Pipelines ===

    fn pipeline(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, Error> {
        self.at = Some(At::Pipe(pipe));
        self.descend()?;
        let value = grown(|| self.commands(dot, &pipe.commands))?.unwrap_or(Value::Nil);
        for name in &pipe.decl {
            if pipe.is_assign {
                self.set_variable(name, value.clone())?;
            } else {
                self.vars.push((name, value.clone()));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn commands(&mut self, dot: &Value, commands: &'t [Command]) -> Result<Option<Value>, Error> {
        let mut value = None;
        for command in commands {
            value = Some(self.command(dot, command, value)?);
        }
        Ok(value)
    }

    /// The value that the escaper at the end of `pipe` would get.
    fn unescaped(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, Error> {
        self.at = Some(At::Pipe(pipe));
        let Some((last, before)) = pipe.commands.split_last() else { return Ok(Value::Nil) };
        if let Some(value) = self.commands(dot, before)? {
            return Ok(value);
        }
        let mut values = Vec::new();
        for arg in &last.args[1..] {
            values.push(self.arg(dot, Param::Any, arg)?);
        }
        match values.as_slice() {
            [] => Ok(Value::str("")),
            [value @ (Value::Str(_) | Value::Safe(..))] => Ok(Value::str(value.as_str().unwrap_or_default())),
            values => Ok(format::sprint(values).into()),
        }
    }

    fn set_variable(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match self.vars.iter_mut().rev().find(|(other, _)| *other == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => self.fail(format_args!("undefined variable: {name}")),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, Error> {
        match self.vars.iter().rev().find(|(other, _)| *other == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format_args!("undefined variable: {name}")),
        }
    }

    fn command(&mut self, dot: &Value, command: &'t Command, last: Option<Value>) -> Result<Value, Error> {
        self.step()?;
        let first = &command.args[0];
        let args = &command.args[1..];
        match &first.kind {
            ExprKind::Field(names) => {
                self.at = Some(At::Expr(first));
                self.fields(dot, first, dot.clone(), names, args, last)
            }
            ExprKind::Chain(base, names) => self.chain(dot, first, base, names, args, last),
            ExprKind::Ident(name) => self.function(dot, first, name, At::Command(command), args, last),
            ExprKind::Pipe(pipe) => {
                if !args.is_empty() || last.is_some() {
                    self.at = Some(At::Command(command));
                    return self.fail(format_args!("can't give argument to non-function {pipe}"));
                }
                self.pipeline(dot, pipe)
            }
            ExprKind::Variable(names) => self.variable_fields(dot, first, names, args, last),
            kind => {
                self.at = Some(At::Expr(first));
                self.refuse_args(first, args, last.as_ref())?;
                match kind {
                    ExprKind::Dot => Ok(dot.clone()),
                    ExprKind::Nil => self.fail("nil is not a command"),
                    _ => self.literal(first),
                }
            }
        }
    }

    fn refuse_args(&mut self, first: &'t Expr, args: &'t [Expr], last: Option<&Value>) -> Result<(), Error> {
        if args.is_empty() && last.is_none() {
            return Ok(());
        }
        self.at = Some(At::Expr(first));
        self.fail(format_args!("can't give argument to non-function {first}"))
    }

    /// A constant by its own type.
    fn literal(&self, expr: &Expr) -> Result<Value, Error> {
        match &expr.kind {
            ExprKind::Bool(value) => Ok(Value::Bool(*value)),
            ExprKind::Str { value, .. } => Ok(Value::Str(value.clone())),
            ExprKind::Number { int, float, text } => {
                let is_hex = text.trim_start_matches(['+', '-']).starts_with(['0'])
                    && text.contains(['x', 'X'])
                    && !text.contains(['p', 'P']);
                let looks_broken =
                    !is_hex && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P']);
                match (int, float) {
                    (_, Some(float)) if looks_broken => Ok(Value::Float(*float)),
                    (Some(int), _) => Ok(Value::Int(*int)),
                    _ => self.fail(format_args!("{text} overflows int")),
                }
            }
            _ => self.fail(format_args!("can't evaluate command {}", go_quote(expr.to_string().as_bytes()))),
        }
    }

    fn variable_fields(
        &mut self,
        dot: &Value,
        expr: &'t Expr,
        names: &'t [String],
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = Some(At::Expr(expr));
        let value = self.variable(&names[0])?;
        if names.len() == 1 {
            self.refuse_args(expr, args, last.as_ref())?;
            return Ok(value);
        }
        self.fields(dot, expr, value, &names[1..], args, last)
    }

    fn chain(
        &mut self,
        dot: &Value,
        expr: &'t Expr,
        base: &'t Expr,
        names: &'t [String],
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = Some(At::Expr(expr));
        let value = self.arg(dot, Param::Any, base)?;
        // As in Go, what is wrong with a field is said of what was evaluated last.
        self.fields(dot, expr, value, names, args, last)
    }

    /// Walks `names` from `value`; the last may be a method with arguments.
    fn fields(
        &mut self,
        dot: &Value,
        node: &'t Expr,
        mut value: Value,
        names: &'t [String],
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        // Nothing has nothing in it: the data of a template that was called without.
        if matches!(value, Value::Nil) {
            return Ok(Value::Nil);
        }
        let mut was_any = false;
        for (i, name) in names.iter().enumerate() {
            self.step()?;
            let of_any = std::mem::replace(&mut was_any, holds_anything(&value, name));
            let (args, last) =
                if i + 1 == names.len() { (args, last.clone()) } else { (Default::default(), None) };
            value = match value.method(name) {
                Some(signature) => {
                    if let (Value::Time(_), Some(misfit)) = (&value, Time::misfit(name)) {
                        return self.fail(misfit);
                    }
                    let values = self.arguments(dot, name, signature, args, last)?;
                    self.at = Some(At::Expr(node));

                    match value.call_method(name, &values) {
                        Ok(value) => value,
                        Err(message) => {
                            self.at = Some(At::Expr(node));
                            return self.fail(format_args!("error calling {name}: {message}"));
                        }
                    }
                }
                None => self.field(&value, name, !args.is_empty() || last.is_some(), of_any)?,
            };
        }
        Ok(value)
    }

    /// A field of a struct or a key of a map.
    fn field(&self, value: &Value, name: &str, has_args: bool, of_any: bool) -> Result<Value, Error> {
        match value {
            Value::Struct(..) if name == RENDERED => {
                return self.fail(format_args!(
                    "{name} is an unexported field of struct type {}",
                    value.type_name()
                ));
            }
            Value::Struct(_, fields) => {
                if let Some((_, field)) = fields.iter().find(|(field, _)| *field == name) {
                    if has_args {
                        return self
                            .fail(format_args!("{name} has arguments but cannot be invoked as function"));
                    }
                    return Ok(field.clone());
                }
            }
            Value::Map(..) if has_args => {
                return self.fail(format_args!("{name} is not a method but has arguments"));
            }
            Value::Map(class, map) => {
                return Ok(map.get(name).cloned().unwrap_or_else(|| class.missing()));
            }
            Value::Nil => return self.fail(format_args!("nil pointer evaluating interface {{}}.{name}")),
            _ => {}
        }
        let class = if of_any { Param::Any.type_name() } else { value.type_name() };
        self.fail(format_args!("can't evaluate field {name} in type {class}"))
    }

    // === Functions ===

    fn function(
        &mut self,
        dot: &Value,
        expr: &'t Expr,
        name: &'t str,
        whole: At<'t>,
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = Some(At::Expr(expr));
        let own = self.functions.signature(name);
        let Some(signature) = own.or_else(|| builtin::signature(name)) else {
            return self.fail(format_args!("{} is not a defined function", go_quote(name.as_bytes())));
        };
        if own.is_none() && matches!(name, "and" | "or") {
            self.check_count(name, signature, args.len() + usize::from(last.is_some()))?;
            return self.short_circuit(dot, name == "or", args, last);
        }
        let values = self.arguments(dot, name, signature, args, last)?;
        if own.is_none() && name == "call" {
            self.at = Some(whole);
            return match (&values[0], args.first()) {
                (Value::Nil, _) | (_, None) => self.fail("error calling call: call of nil"),
                (value, Some(shown)) => self.fail(format_args!(
                    "error calling call: non-function {shown} of type {}",
                    value.type_name()
                )),
            };
        }
        let result = match own {
            Some(_) => self.functions.call(name, &values),
            None => builtin::call(name, &values),
        };
        match result {
            Ok(value) => {
                self.charge(&value)?;
                self.check_clock()?;
                Ok(value)
            }
            Err(message) => {
                self.at = Some(whole);
                self.fail(format_args!("error calling {name}: {message}"))
            }
        }
    }

    fn check_count(&self, name: &str, signature: Signature, count: usize) -> Result<(), Error> {
        let fixed = signature.params.len();
        match signature.variadic {
            Some(_) if count < fixed => {
                self.fail(format_args!("wrong number of args for {name}: want at least {fixed} got {count}"))
            }
            None if count != fixed => {
                self.fail(format_args!("wrong number of args for {name}: want {fixed} got {count}"))
            }
            _ => Ok(()),
        }
    }

    /// The arguments of a function or method, as its parameters want them.
    fn arguments(
        &mut self,
        dot: &Value,
        name: &str,
        signature: Signature,
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Vec<Value>, Error> {
        let count = args.len() + usize::from(last.is_some());
        self.check_count(name, signature, count)?;
        let mut values = Vec::with_capacity(count);
        for (i, arg) in args.iter().enumerate() {
            values.push(self.arg(dot, signature.param(i), arg)?);
        }
        if let Some(last) = last {
            values.push(self.checked(last, signature.param(count - 1))?);
        }
        Ok(values)
    }

    /// `and` and `or` return the operand that decides and evaluate no further.
    fn short_circuit(
        &mut self,
        dot: &Value,
        until: bool,
        args: &'t [Expr],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.arg(dot, Param::Any, arg)?;
            if value.is_true() == until {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// An argument of a function, as its parameter wants it.
    fn arg(&mut self, dot: &Value, param: Param, expr: &'t Expr) -> Result<Value, Error> {
        self.at = Some(At::Expr(expr));
        let value = match &expr.kind {
            ExprKind::Dot => dot.clone(),
            ExprKind::Nil if param.takes_nil() => return Ok(Value::Nil),
            ExprKind::Nil => return self.fail(format_args!("cannot assign nil to {}", param.type_name())),
            ExprKind::Field(_) | ExprKind::Variable(_) | ExprKind::Chain(..) => {
                let value = match &expr.kind {
                    ExprKind::Field(names) => self.fields(dot, expr, dot.clone(), names, &[], None)?,
                    ExprKind::Variable(names) => self.variable_fields(dot, expr, names, &[], None)?,
                    ExprKind::Chain(base, names) => self.chain(dot, expr, base, names, &[], None)?,
                    _ => Value::Nil,
                };
                // Nothing in a field of any type is no value of another type.
                if matches!(value, Value::Nil) && param != Param::Any {
                    return self.fail(format_args!(
                        "wrong type for value; expected {}; got interface {{}}",
                        param.type_name()
                    ));
                }
                value
            }
            ExprKind::Pipe(pipe) => self.pipeline(dot, pipe)?,
            ExprKind::Ident(name) => self.function(dot, expr, name, At::Expr(expr), &[], None)?,
            ExprKind::Bool(_) | ExprKind::Number { .. } | ExprKind::Str { .. } => {
                return match (param, &expr.kind) {
                    (Param::Any, _) => self.literal(expr),
                    (Param::Str, ExprKind::Str { value, .. }) => Ok(Value::Str(value.clone())),
                    (Param::Int, ExprKind::Number { int: Some(int), .. }) => Ok(Value::Int(*int)),
                    (Param::Float, ExprKind::Number { float: Some(float), .. }) => Ok(Value::Float(*float)),
                    (Param::Duration, ExprKind::Number { int: Some(int), .. }) => Ok(Value::Duration(*int)),
                    (Param::Str, _) => self.fail(format_args!("expected string; found {expr}")),
                    (Param::Int | Param::Duration, _) => {
                        self.fail(format_args!("expected integer; found {expr}"))
                    }
                    (Param::Float, _) => self.fail(format_args!("expected float; found {expr}")),
                    (param, _) => {
                        self.fail(format_args!("can't handle {expr} for arg of type {}", param.type_name()))
                    }
                };
            }
        };
        self.checked(value, param)
    }

    /// Refuses a value of another type than the parameter's.
    fn checked(&self, value: Value, param: Param) -> Result<Value, Error> {
        // What is passed by reference is followed where its type is wanted.
        let value = match value {
            Value::Ptr(inner) if param != Param::Any && inner.type_name() == param.type_name() => {
                (*inner).clone()
            }
            value => value,
        };
        let fits = match (param, &value) {
            (Param::Any, _)
            | (Param::Str, Value::Str(_))
            | (Param::Int, Value::Int(_))
            | (Param::Float, Value::Float(_))
            | (Param::Time, Value::Time(_))
            | (Param::Duration, Value::Duration(_)) => true,
            (param, Value::Nil) if param.takes_nil() => true,
            (Param::Strings, Value::List(class, _)) => class.holds_strings,
            (Param::Class(name), value) => value.type_name() == name,
            _ => false,
        };
        match value {
            value if fits => Ok(value),
            Value::Nil => self.fail(format_args!("invalid value; expected {}", param.type_name())),
            value => self.fail(format_args!(
                "wrong type for value; expected {}; got {}",
                param.type_name(),
                value.type_name()
            )),
        }
    }
}

impl Signature {
    fn param(&self, i: usize) -> Param {
        self.params.get(i).copied().or(self.variadic).unwrap_or(Param::Any)
    }
}

/// Whether Go knows no type of the field: then messages do not name one either.
fn holds_anything(value: &Value, name: &str) -> bool {
    match value {
        Value::Map(class, _) => *class == &value::ANY_MAP,
        Value::Struct(class, _) => name == "Value" && class.name != "template.Pair",
        _ => false,
    }
}

/// The escaper that ends `pipe` when it is one of Go's own.
fn called_escaper(pipe: &Pipe, functions: &dyn Functions) -> Option<Called> {
    let ExprKind::Ident(name) = &pipe.commands.last()?.args.first()?.kind else { return None };
    let called = match name.as_str() {
        "html" => Called::Html,
        "urlquery" => Called::UrlQuery,
        _ => return None,
    };
    functions.signature(name).is_none().then_some(called)
}
