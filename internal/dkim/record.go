package dkim

import (
	"slices"
	"strings"
)

// RevokedRecord is the value of the TXT record of a key that signs no longer and
// may not be trusted, RFC 6376 §3.6.1: an empty public key.
const RevokedRecord = "v=DKIM1; p="

// Published reports whether one of the TXT records found at a key's name has the
// public key that the wanted record has.
func Published(found []string, wanted string) bool {
	want := Tags(wanted)
	return slices.ContainsFunc(found, func(text string) bool {
		got := Tags(text)
		p, has := got["p"]
		return has && p == want["p"] && keyType(got) == keyType(want)
	})
}

// Tags reads a tag=value list, RFC 6376 §3.2; folding white space inside a value
// is left out, as it means nothing in the key of a record.
func Tags(text string) map[string]string {
	list := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(part, "=")
		if ok {
			list[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
		}
	}
	return list
}

// keyType is the k tag of a record, RFC 6376 §3.6.1: "rsa" when it is missing.
func keyType(list map[string]string) string {
	if k := list["k"]; k != "" {
		return k
	}
	return "rsa"
}
