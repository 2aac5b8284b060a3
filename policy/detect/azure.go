package detect

import (
	"bytes"
	"encoding/base64"
)

// azureStorageKey finds the keys of storage accounts of Azure: 64 bytes in
// base64, named AccountKey as in a connection string (Microsoft, "Configure Azure
// Storage connection strings") or as a name in JSON. The name is a part of the
// value.
//
// Not one: 64 bytes in base64 with no name or another one, such as the SHA-512 of
// subresource integrity; a key of zeros or other placeholders, which has fewer
// than 16 different characters.
var azureStorageKey = &Detector{
	Name:     "azure-storage-key",
	Summary:  "Azure storage keys: AccountKey= and 64 bytes in base64",
	literals: []string{"AccountKey"},
	fold:     true,
	at:       azureStorageKeyAt,
	find:     starting("Aa"),
}

// azureClientSecret finds the secrets that Microsoft Entra ID (Azure AD) makes for
// applications: three characters, a digit, Q~ and 31 to 34 more, of letters,
// digits and _~.-. The form is not specified; it is that of the secrets made
// since 2021 and of the rule of gitleaks.
//
// Not one: what such a character, unless it is a point, is next to; fewer than
// twelve different characters. Older secrets have no form to tell them by.
var azureClientSecret = &Detector{
	Name:     "azure-client-secret",
	Summary:  "Microsoft Entra ID (Azure AD) client secrets: ...8Q~...",
	literals: []string{"Q~"},
	at:       azureClientSecretAt,
	find:     anchored("Q~", 4),
}

const (
	azureKeyLength = 88 // of 64 bytes in base64
	azureKeyName   = "accountkey"
)

var (
	base64Std   = classOf(alphabet + "+/")
	secretBytes = classOf(alphabet + "_~.-")
	isAssign    = classOf(" \t\\\"':=")
)

func azureStorageKeyAt(data []byte, i int) int {
	start := i + len(azureKeyName)
	if len(data) < start+azureKeyLength || !bytes.EqualFold(data[i:start], []byte(azureKeyName)) {
		return -1
	}
	assign := start
	if start = isAssign.end(data, start, 8); start == assign {
		return -1
	}
	end := start + azureKeyLength
	if len(data) < end || base64Std.precedes(data, end) || prefixed(data, end, "=") {
		return -1
	}
	var buf [azureKeyLength]byte
	n, err := base64.StdEncoding.Strict().Decode(buf[:], data[start:end])
	if err != nil || n != 64 || distinct(data[start:end]) < 16 {
		return -1
	}
	return end
}

func azureClientSecretAt(data []byte, i int) int {
	const shortest, longest = 6 + 31, 6 + 34
	if len(data)-i < shortest || !isDecimal[data[i+3]] || !prefixed(data, i+4, "Q~") ||
		secretBytes.follows(data, i) || escaped(data, i) {
		return -1
	}
	end := secretBytes.end(data, i, longest+2)
	if end-i == longest+1 && data[end-1] == '.' { // of a sentence
		end--
	}
	if end-i < shortest || end-i > longest || distinct(data[i:end]) < 12 {
		return -1
	}
	return end
}
