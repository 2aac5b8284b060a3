package onboarding

import (
	"net/http"
	"strings"
)

// A guide is what the page says about one kind of device.
type guide struct {
	Platform string // name of the bundle
	Name     string // for people
	Steps    []step
	Offers   []offer // the best first

	ends []string // of the names of the files that are offered by themselves
	tar  bool     // the bundle is offered as tar, which keeps the scripts executable; else as zip
}

// A step is a thing to do; Command may be empty. In both, BASE/ stands for where
// the page is.
type step struct{ Text, Command string }

// An offer is a file for a device.
type offer struct {
	Href string // relative to the page
	Name string
	Size string
	Main bool // this is what the steps are about
}

// unpack is how a terminal gets a bundle.
func unpack(platform string) step {
	return step{"In a terminal:", "curl -fsS BASE/framegate-" + platform + ".tar | tar -x && cd framegate-" + platform}
}

// guides are in the order in which the page has them. The steps are those of
// README.txt in the bundle, cut down to one device and one person.
var guides = []guide{
	{Platform: "windows", Name: "Windows", ends: []string{".cer"}, Steps: []step{
		{"The fingerprint of the downloaded file is what this prints:", "certutil -hashfile FILE SHA256"},
		{"Open the file, and press Install Certificate. Choose Local Machine, or Current User if you are not an administrator.", ""},
		{"Choose “Place all certificates in the following store”, and there Trusted Root Certification Authorities.", ""},
		{"For many machines, the bundle has scripts and the steps for group policy and Intune.", ""},
	}},
	{Platform: "macos", Name: "macOS", ends: []string{".mobileconfig"}, Steps: []step{
		{"Open the file. Then System Settings > General > Device Management > framegate root certificates; compare the fingerprint, and press Install.", ""},
		{"An iPad may present itself as a Mac: take the file for iPhone and iPad, below.", ""},
	}},
	{Platform: "ios", Name: "iPhone and iPad", ends: []string{".mobileconfig"}, Steps: []step{
		{"Open this page in Safari, take the file, and allow the download.", ""},
		{"Settings > Profile Downloaded > Install. More Details has the fingerprint to compare.", ""},
		{"Settings > General > About > Certificate Trust Settings: switch on full trust for the root. Without this step nothing is trusted.", ""},
	}},
	{Platform: "android", Name: "Android", ends: []string{".crt"}, Steps: []step{
		{"Settings > Security > Encryption & credentials > Install a certificate > CA certificate. Searching the settings for “certificate” finds it.", ""},
		{"Trusted credentials > User has the fingerprint to compare.", ""},
		{"Browsers trust it now. Most apps do not, and cannot be made to.", ""},
	}},
	{Platform: "chromeos", Name: "ChromeOS", ends: []string{".crt"}, Steps: []step{
		{"In Chrome: chrome://certificate-manager > Import. Compare the fingerprint, and trust it for identifying websites.", ""},
	}},
	{Platform: "linux", Name: "Linux", tar: true, ends: []string{".crt"}, Steps: []step{
		unpack("linux"),
		{"For the whole system:", "sudo sh install.sh"},
		{"For Chromium, Chrome and Edge of one user, which do not ask the system:", "sh install-nss.sh"},
	}},
	{Platform: "firefox", Name: "Firefox", tar: true, ends: []string{".crt"}, Steps: []step{
		{"By hand: Settings > Privacy & Security > View Certificates > Authorities > Import. Compare the fingerprint, and let it identify websites.", ""},
		unpack("firefox"),
		{"For every user of a machine with Linux:", "sudo sh install.sh"},
	}},
	{Platform: "java", Name: "Java", tar: true, Steps: []step{unpack("java"), {"README.txt there has two ways:", "less README.txt"}}},
	{Platform: "node", Name: "Node.js", tar: true, Steps: []step{unpack("node"), {"README.txt there has two ways:", "less README.txt"}}},
	{Platform: "python", Name: "Python", tar: true, Steps: []step{unpack("python"), {"README.txt there has the commands:", "less README.txt"}}},
	{Platform: "docker", Name: "Docker", tar: true, Steps: []step{unpack("docker"), {"README.txt there has the commands:", "less README.txt"}}},
}

// detect names the bundles for whoever sent these fields, the most likely first,
// none if they do not tell. They are hints of the client about itself: a wrong
// one costs a look at the rest of the page.
func detect(h http.Header) []string {
	agent := h.Get("User-Agent")
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(agent, w) {
				return true
			}
		}
		return false
	}
	switch strings.Trim(h.Get("Sec-CH-UA-Platform"), `" `) { // browsers send it over TLS
	case "Windows":
		return []string{"windows"}
	case "macOS":
		return []string{"macos"}
	case "iOS":
		return []string{"ios"}
	case "Android":
		return []string{"android"}
	case "Chrome OS", "Chromium OS":
		return []string{"chromeos"}
	case "Linux":
		return []string{"linux"}
	}
	switch {
	case has("iPhone", "iPad", "iPod"):
		return []string{"ios"}
	case has("Android"):
		return []string{"android"}
	case has("CrOS"):
		return []string{"chromeos"}
	case has("Windows"):
		return []string{"windows"}
	case has("Macintosh", "Mac OS X"):
		return []string{"macos", "ios"} // an iPad says the same
	case has("Firefox/") && has("Linux", "BSD", "X11"):
		return []string{"firefox", "linux"}
	case has("Linux", "X11"):
		return []string{"linux"}
	case strings.HasPrefix(agent, "Java/"), strings.HasPrefix(agent, "Java-http-client/"):
		return []string{"java"}
	case has("python-requests/", "Python-urllib/", "python-httpx/", "aiohttp/"):
		return []string{"python"}
	case agent == "node", strings.HasPrefix(agent, "node-fetch"), strings.HasPrefix(agent, "undici"):
		return []string{"node"}
	case has("docker/"):
		return []string{"docker"}
	}
	return nil
}
