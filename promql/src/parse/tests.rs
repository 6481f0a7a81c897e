use super::{Options, Parser};

mod corpus;
mod generate;
mod robust;
mod texts;
mod upstream;

/// Parses with everything switched on.
fn parse(text: &str) -> Result<super::ast::Expr, super::ParseError> {
    Parser::new(Options::ALL).parse(text)
}
