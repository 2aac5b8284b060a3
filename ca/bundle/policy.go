package bundle

import "encoding/json"

// chromePolicy is a file for the managed policies of Chrome, Chromium and Edge
// on Linux. CACertificates is a list of certificates in base64 DER, known since
// Chrome 132:
// https://chromium.googlesource.com/chromium/src/+/main/components/policy/resources/templates/policy_definitions/CertificateManagement/CACertificates.yaml
func chromePolicy(roots []root) File {
	var list []string
	for _, r := range roots {
		list = append(list, r.base64())
	}
	return jsonFile("chrome-policy.json", map[string]any{"CACertificates": list})
}

// firefoxPolicies is where Firefox on Linux reads its policies, whoever packaged
// it. The certificates are kept beside them.
const firefoxPolicies = "/etc/firefox/policies/"

// firefoxPolicy is Firefox's policies.json. Install takes paths, and is what
// works on Linux; ImportEnterpriseRoots makes Firefox believe the system's store,
// which works on Windows and macOS only:
// https://firefox-admin-docs.mozilla.org/reference/policies/certificates/
func firefoxPolicy(roots []root) File {
	var paths []string
	for _, r := range roots {
		paths = append(paths, firefoxPolicies+r.Name+".crt")
	}
	return jsonFile("policies.json", map[string]any{
		"policies": map[string]any{
			"Certificates": map[string]any{"ImportEnterpriseRoots": true, "Install": paths},
		},
	})
}

// A network configuration is Open Network Configuration as far as certificates
// go: https://chromium.googlesource.com/chromium/src/+/main/components/onc/docs/onc_spec.md
type networkConfiguration struct {
	Type         string
	Certificates []oncCertificate
}

type oncCertificate struct {
	GUID      string
	Type      string
	X509      string   // base64 DER
	TrustBits []string `json:",omitempty"` // "Web": may identify servers
}

func networkConfigurationOf(roots []root, trust ...string) networkConfiguration {
	c := networkConfiguration{Type: "UnencryptedConfiguration"}
	for _, r := range roots {
		c.Certificates = append(c.Certificates, oncCertificate{
			GUID: "{" + uuid("framegate.root."+r.SHA256) + "}", Type: "Authority", X509: r.base64(), TrustBits: trust,
		})
	}
	return c
}

// onc is what chrome://network imports and the policy
// OpenNetworkConfiguration holds.
func onc(roots []root) File { return jsonFile("framegate.onc", networkConfigurationOf(roots, "Web")) }

// androidPolicy is the part of a policy of the Android Management API, which
// takes no trust bits:
// https://developers.google.com/android/management/configure-networks
func androidPolicy(roots []root) File {
	return jsonFile("android-policy.json", map[string]any{"openNetworkConfiguration": networkConfigurationOf(roots)})
}

func jsonFile(name string, value any) File {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(err) // strings and lists of strings
	}
	return File{name, 0o644, append(data, '\n')}
}
