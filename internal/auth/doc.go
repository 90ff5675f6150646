// Package auth turns a bearer token into an [Identity]: who a client is, which
// subjects it receives, and until when. It is the only package that imports
// golang-jwt.
//
// The nouns:
//
//   - A [Verifier] checks tokens against its keys and one set of rules. It
//     holds no connection and is safe for concurrent use. A key is bound to the
//     algorithms that it is used with; the token chooses among what is bound,
//     and nothing else. Public keys can be replaced while it is in use.
//   - A template is a default subscription with placeholders: "user.{sub}".
//     A placeholder names a claim; its value becomes one subject token, or part
//     of one, and can never become more: a subject is a permission.
//   - An [Error] says why a token was refused: a bounded [Reason] for metrics
//     and one sentence for the client.
//
// The signature is checked before a byte of the payload is parsed, so that a
// stranger's JSON reaches nothing but the small header parser.
package auth
