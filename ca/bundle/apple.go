package bundle

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strings"
)

// namespace is where our version 5 UUIDs come from: the version 5 UUID of
// "framegate" in the null namespace. It never changes, or devices would take a
// profile that is made anew for another one.
var namespace = uuid5([16]byte{}, "framegate")

// uuid5 follows RFC 9562, section 5.5: SHA-1 over namespace and name, with the
// version and variant bits set.
func uuid5(space [16]byte, name string) [16]byte {
	sum := sha1.Sum(append(space[:], name...))
	var u [16]byte
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return u
}

// uuid returns the UUID of a name in our namespace, in capitals as Apple's tools
// write it.
func uuid(name string) string {
	u := uuid5(namespace, name)
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// profile is a configuration profile: one com.apple.security.root payload for
// each root. The keys are those of apple/device-management,
// mdm/profiles/TopLevel.yaml, CommonPayloadKeys.yaml and com.apple.security.root.yaml.
//
// A profile with identifier and UUID of an installed one takes its place; both
// come from the hashes of the roots. scope is PayloadScope, which only macOS
// knows: System, or "" for none.
func profile(roots []root, scope string) File {
	var all []string
	for _, r := range roots {
		all = append(all, r.SHA256)
	}
	id := "framegate.roots." + strings.ToLower(uuid(strings.Join(all, " ")))

	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString(`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n")
	b.WriteString("<plist version=\"1.0\">\n<dict>\n")
	text := func(indent, key, value string) {
		fmt.Fprintf(&b, "%s<key>%s</key>\n%s<string>", indent, key, indent)
		xml.EscapeText(&b, []byte(value))
		b.WriteString("</string>\n")
	}
	text("\t", "PayloadType", "Configuration")
	b.WriteString("\t<key>PayloadVersion</key>\n\t<integer>1</integer>\n")
	text("\t", "PayloadIdentifier", id)
	text("\t", "PayloadUUID", uuid(id))
	text("\t", "PayloadDisplayName", "framegate root certificates")
	text("\t", "PayloadDescription", "Lets this device trust connections that the network's framegate gateway inspects.")
	if scope != "" {
		text("\t", "PayloadScope", scope)
	}
	b.WriteString("\t<key>PayloadContent</key>\n\t<array>\n")
	for _, r := range roots {
		own := "framegate.root." + r.SHA256
		b.WriteString("\t\t<dict>\n")
		text("\t\t\t", "PayloadType", "com.apple.security.root")
		b.WriteString("\t\t\t<key>PayloadVersion</key>\n\t\t\t<integer>1</integer>\n")
		text("\t\t\t", "PayloadIdentifier", own)
		text("\t\t\t", "PayloadUUID", uuid(own))
		text("\t\t\t", "PayloadDisplayName", r.Subject)
		text("\t\t\t", "PayloadCertificateFileName", r.Name+".cer")
		b.WriteString("\t\t\t<key>PayloadContent</key>\n\t\t\t<data>\n")
		for rest := base64.StdEncoding.EncodeToString(r.cert.Raw); rest != ""; {
			n := min(len(rest), 64)
			fmt.Fprintf(&b, "\t\t\t%s\n", rest[:n])
			rest = rest[n:]
		}
		b.WriteString("\t\t\t</data>\n\t\t</dict>\n")
	}
	b.WriteString("\t</array>\n</dict>\n</plist>\n")
	return File{"framegate.mobileconfig", 0o644, b.Bytes()}
}
