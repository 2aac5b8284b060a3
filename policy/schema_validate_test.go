package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

func (s schema) validateTOML(text string) error {
	var file map[string]any
	if _, err := toml.Decode(text, &file); err != nil {
		return err
	}
	data, err := json.Marshal(file)
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	return s.validate(s, v, "")
}

// validate is as much of draft-07 as the schema uses: a keyword that it does not
// know is an error, so that none is used in vain.
func (s schema) validate(root schema, v any, at string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format, append([]any{at}, args...)...)
	}
	text, isText := v.(string)
	number, isNumber := v.(float64)
	list, isList := v.([]any)
	table, isTable := v.(map[string]any)
	for keyword, want := range s {
		n, _ := want.(float64)
		var err error
		switch keyword {
		case "$schema", "title", "description", "x-taplo", "definitions":
		case "$ref":
			err = s.of(root).validate(root, v, at)
		case "type":
			if !hasType(v, want) {
				err = bad("is no %v", want)
			}
		case "enum":
			if !slices.Contains(want.([]any), v) {
				err = bad("is none of %v", want)
			}
		case "pattern":
			if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
				err = bad("is not %v", want)
			}
		case "minLength":
			if isText && utf8.RuneCountInString(text) < int(n) {
				err = bad("is too short")
			}
		case "maxLength":
			if isText && utf8.RuneCountInString(text) > int(n) {
				err = bad("is too long")
			}
		case "minimum":
			if isNumber && number < n {
				err = bad("is too small")
			}
		case "maximum":
			if isNumber && number > n {
				err = bad("is too large")
			}
		case "minItems":
			if isList && len(list) < int(n) {
				err = bad("has too few items")
			}
		case "minProperties":
			if isTable && len(table) < int(n) {
				err = bad("has too few keys")
			}
		case "items":
			for i, item := range list {
				err = errors.Join(err, schema(want.(map[string]any)).validate(root, item, fmt.Sprintf("%s[%d]", at, i)))
			}
		case "required":
			for _, key := range want.([]any) {
				if _, ok := table[key.(string)]; isTable && !ok {
					err = bad("lacks %s", key)
				}
			}
		case "additionalProperties": // is false, see TestSchemaKeys
			for key := range table {
				if _, ok := s["properties"].(map[string]any)[key]; !ok {
					err = bad("has unknown key %s", key)
				}
			}
		case "properties":
			for key, sub := range want.(map[string]any) {
				if value, ok := table[key]; ok {
					err = errors.Join(err, schema(sub.(map[string]any)).validate(root, value, at+"."+key))
				}
			}
		case "anyOf":
			if !slices.ContainsFunc(want.([]any), func(sub any) bool { return schema(sub.(map[string]any)).validate(root, v, at) == nil }) {
				err = bad("is none of anyOf")
			}
		default:
			err = bad("the schema has keyword %s", keyword)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasType reports whether v is of a type, or of one of several.
func hasType(v any, want any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return hasType(v, one) })
	}
	switch v := v.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}
