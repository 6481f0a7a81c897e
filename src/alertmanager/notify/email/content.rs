//! What an e-mail says, before it is one: what a layout hands to the composer of MIME.
//!
//! A layout decides words, looks and images; it knows nothing of parts, encodings and sessions. Nothing in
//! a [`Content`] needs to be clean: the composer keeps line breaks out of headers and cuts what is too long.

/// The parts of a message; the composer fills in what a layout leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The subject, where the user chose none. `None` leaves the template `email.default.subject`.
    pub subject: Option<String>,
    /// The part for readers without HTML.
    pub text: Option<String>,
    /// The part with looks; its images are named `cid:<cid>`.
    pub html: Option<String>,
    pub images: Vec<Image>,
    /// Headers beside those that each mail has. A header of the user's wins over one of these.
    pub headers: Vec<(String, String)>,
    /// What could not be had, such as a graph, in words for the log; the mail goes without.
    pub note: Vec<String>,
}

/// A picture that travels with the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name in `cid:` links, of letters, digits, `-`, `_` and `.`, and once in a message. The composer
    /// makes it unique in the world.
    pub cid: String,
    pub png: Vec<u8>,
    /// What it shows, in words.
    pub alt: String,
}
