package policy

import _ "embed"

// Schema is the JSON Schema of a policy file, for editors. It is draft-07: Taplo
// and Even Better TOML promise draft-04 and know draft-07, of which the schema
// uses what both have in common; completion goes by its "definitions".
//
// It knows less than [Load], which alone decides. What Load accepts the schema
// accepts, too, and both know the same tables, keys and words.
//
//go:embed schema.json
var Schema []byte
