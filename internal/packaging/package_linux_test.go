package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The second version of the tests. Its configuration file has changed.
const nextVersion = "0.9.1"

// nextDeb repacks the package as a newer one into dir.
func nextDeb(t *testing.T, dir string) {
	t.Helper()
	const repack = `dpkg-deb --raw-extract "$1" "$2/tree"
		sed -i "s/^Version: .*/Version: $3/" "$2/tree/DEBIAN/control"
		echo '# new in this version' >>"$2/tree/etc/framegate/framegate.toml"
		sed -i '/etc\/framegate\/framegate.toml/d' "$2/tree/DEBIAN/md5sums"
		dpkg-deb -Zgzip -z1 --build "$2/tree" "$2/next.deb"
		rm -r "$2/tree"`
	if out, err := exec.Command("sh", "-ec", repack, "sh", deb(t), dir, nextVersion).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestPackage is the life of the package on a machine with systemd: unpacked,
// installed, started, upgraded while the gateway runs, removed, purged.
func TestPackage(t *testing.T) {
	shared := t.TempDir()
	for from, to := range map[string]string{deb(t): "framegate.deb", "testdata/held.py": "held.py"} {
		if err := os.WriteFile(filepath.Join(shared, to), readFile(t, from), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	nextDeb(t, shared)
	m := boot(t, shared)
	m.sh(t, "if dpkg --status framegate >/dev/null 2>&1; then dpkg --purge framegate; fi; rm -rf /etc/framegate /var/lib/framegate")
	m.sh(t, "! getent passwd framegate || userdel framegate")

	// says runs a script and expects what it prints to have each text.
	says := func(t *testing.T, script string, want ...string) {
		t.Helper()
		out := m.sh(t, script)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s\nsays\n%s\nwithout %q", script, out, w)
			}
		}
	}
	mainPID := func(t *testing.T) string {
		t.Helper()
		return strings.TrimSpace(m.sh(t, "systemctl show --property=MainPID --value framegate"))
	}
	const noRules = "! iptables-save | grep FRAMEGATE; ! ip6tables-save | grep FRAMEGATE"

	t.Run("unpacked", func(t *testing.T) {
		m.sh(t, "dpkg --unpack /mnt/framegate.deb")
		// There is no user yet and no configuration: the service does not start, says why, and captures nothing.
		m.sh(t, "! systemctl start framegate")
		says(t, "systemctl stop framegate; journalctl --sync; journalctl --no-pager", "Failed to determine user credentials", "status=217/USER", "Failed with result 'exit-code'")
		m.sh(t, noRules+"; [ ! -e /var/lib/framegate ]")
		says(t, "framegate version", "v"+version)
		says(t, "framegate policy check", "ok: 0 rules")
	})

	t.Run("installed", func(t *testing.T) {
		says(t, "dpkg --configure framegate 2>&1", "installed, and not started", "hint: ")
		says(t, "getent passwd framegate", ":/var/lib/framegate:/usr/sbin/nologin")
		says(t, "systemctl is-enabled framegate framegate.socket || :", "disabled\ndisabled\n")
		m.sh(t, "! systemctl --quiet is-active framegate")
		says(t, "dpkg --verify framegate; dpkg-query --show --showformat='${Conffiles}' framegate", "/etc/framegate/framegate.toml", "/etc/framegate/policy.d/default.toml")
		says(t, "framegate version", "framegate v"+version, "commit "+commit, "policy schema")
		says(t, "framegate policy check && framegate policy test 2>&1", "ok: default, 10 rules", "ok: 22 tests") // the configuration is read as well
		m.sh(t, "cmp /etc/framegate/framegate.toml /usr/share/doc/framegate/examples/framegate.toml")
		m.sh(t, "systemd-analyze --man=no verify framegate.service framegate.socket 2>&1 | (! grep framegate)")
		for path, want := range map[string]string{
			"/usr/bin/framegate":                      "755 root:root",
			"/etc/framegate":                          "755 root:root",
			"/etc/framegate/policy.d":                 "755 root:root",
			"/etc/framegate/framegate.toml":           "644 root:root",
			"/lib/systemd/system/framegate.service":   "644 root:root",
			"/usr/share/doc/framegate/docs/POLICY.md": "644 root:root",
		} {
			says(t, "stat --format='%a %U:%G' "+path, want+"\n")
		}
	})
	t.Run("manual", func(t *testing.T) { checkManual(t, m) })
	t.Run("completions", func(t *testing.T) { checkCompletions(t, m) })

	t.Run("upgraded", func(t *testing.T) {
		m.sh(t, "echo '# mine' >>/etc/framegate/framegate.toml; printf '[policy]\\nname = \"default\"\\n' >/etc/framegate/policy.d/mine.toml")
		m.sh(t, "systemctl enable --now framegate")
		says(t, "iptables-save --table nat; ip6tables-save --table nat", "--dports 80,443 -j REDIRECT --to-ports 8443")
		says(t, "curl --silent http://127.0.0.1:9470/readyz", "ready")
		m.sh(t, "systemd-run --unit=held --property=StandardOutput=file:/tmp/held /usr/bin/python3 /mnt/held.py; until grep -q '^1 ' /tmp/held; do sleep 0.1; done")
		before := mainPID(t)

		// As far as a machine gets that fails in the middle: the old program goes on.
		m.sh(t, "dpkg --force-confdef --force-confold --unpack /mnt/next.deb")
		says(t, "curl --silent http://127.0.0.1:9470/readyz; cat /tmp/held", "ready")
		if now := mainPID(t); now != before {
			t.Errorf("the gateway was %s and is %s before the package is configured", before, now)
		}

		says(t, "dpkg --force-confdef --force-confold --configure framegate 2>&1", "the running gateway hands over")
		after := mainPID(t)
		if after == before || after == "0" {
			t.Errorf("the gateway was %s and is %s", before, after)
		}
		says(t, "systemctl is-active framegate; readlink /proc/"+after+"/exe", "active\n/usr/bin/framegate\n")
		says(t, "curl --silent http://127.0.0.1:9470/readyz", "ready")
		m.sh(t, "kill -USR1 $(systemctl show --property=MainPID --value held); for _ in $(seq 100); do grep -q '^2 ' /tmp/held && exit; sleep 0.1; done; cat /tmp/held; exit 1")
		m.sh(t, "systemctl stop held")
		says(t, "tail -n1 /etc/framegate/framegate.toml; ls /etc/framegate", "# mine\n", "framegate.toml.dpkg-dist")
		says(t, "dpkg-query --show framegate", nextVersion)
	})

	t.Run("not handed over", func(t *testing.T) {
		// The new program cannot start by this configuration. The package is installed, says so, and the old one serves.
		m.sh(t, "echo 'nonsense = 1' >>/etc/framegate/framegate.toml; mkdir /tmp/quick; printf '#!/bin/sh\n' >/tmp/quick/sleep; chmod 755 /tmp/quick/sleep")
		before := mainPID(t)
		says(t, "PATH=/tmp/quick:$PATH dpkg --force-confold --install /mnt/next.deb 2>&1", "the gateway that runs is still the old version", "hint: ")
		says(t, "systemctl is-active framegate; curl --silent http://127.0.0.1:9470/readyz", "active\nready\n")
		if now := mainPID(t); now != before {
			t.Errorf("the gateway was %s and is %s", before, now)
		}
		says(t, "dpkg --verify framegate; dpkg --audit; ! framegate policy check 2>&1", "/etc/framegate/framegate.toml:", "nonsense")
		m.sh(t, "sed -i /nonsense/d /etc/framegate/framegate.toml")
	})

	t.Run("half configured", func(t *testing.T) {
		// The script of the installation fails in the middle; what completes it is dpkg's own command.
		m.sh(t, "mkdir /tmp/broken; printf '#!/bin/sh\\nexit 1\\n' >/tmp/broken/systemd-sysusers; chmod 755 /tmp/broken/systemd-sysusers; ! PATH=/tmp/broken:$PATH dpkg --force-confold --install /mnt/next.deb")
		says(t, "dpkg-query --show --showformat='${Status}' framegate; curl --silent http://127.0.0.1:9470/readyz", "half-configured", "ready")
		says(t, "systemctl stop framegate; dpkg --configure --pending 2>&1; dpkg --audit", "no gateway runs", "hint: systemctl start framegate")
		m.sh(t, "systemctl start framegate")
	})

	t.Run("admin on a socket", func(t *testing.T) {
		m.sh(t, "printf '[admin]\\nlisten = \"unix:/run/framegate/admin.sock\"\\npprof = true\\n' >/etc/framegate/framegate.toml; systemctl restart framegate")
		const ask = "curl --silent --fail --unix-socket /run/framegate/admin.sock http://localhost"
		says(t, ask+"/readyz; stat --format='%a %U' /run/framegate /run/framegate/admin.sock; "+ask+"/debug/pprof/cmdline | tr '\\0' ' '", "ready\n700 framegate\n600 framegate\n/usr/bin/framegate run")
		before := mainPID(t)
		m.sh(t, "systemctl kill --kill-whom=main --signal=USR2 framegate; for _ in $(seq 100); do [ $(systemctl show --property=MainPID --value framegate) != "+before+" ] && break; sleep 0.1; done")
		says(t, ask+"/readyz; framegate doctor --no-self-test || :", "ready\n", "unix:/run/framegate/admin.sock/readyz: ready")
		if mainPID(t) == before {
			t.Error("the gateway has not handed over")
		}
	})

	t.Run("removed", func(t *testing.T) {
		// Also where the rules are to outlive the service.
		m.sh(t, "mkdir -p /etc/systemd/system/framegate.service.d; cp /usr/share/doc/framegate/examples/systemd/fail-closed.conf /etc/systemd/system/framegate.service.d/; systemctl daemon-reload")
		says(t, "dpkg --remove framegate 2>&1", "the redirect rules are down")
		m.sh(t, noRules+"; ! systemctl --quiet is-active framegate; [ ! -e /usr/bin/framegate ]; ! pgrep -x framegate")
		m.sh(t, "[ -s /etc/framegate/framegate.toml ]; [ -s /var/lib/framegate/ca/root.key ]")
	})

	t.Run("purged", func(t *testing.T) {
		says(t, "dpkg --purge framegate 2>&1", "kept: /etc/framegate\n", "kept: /var/lib/framegate\n", "rm -r /etc/framegate /var/lib/framegate")
		says(t, "find /etc/framegate ! -type d", "/etc/framegate/policy.d/mine.toml\n")
		if out := m.sh(t, "find /etc/framegate ! -type d | wc -l; find /etc/systemd/system -type l -name 'framegate*'"); out != "1\n" {
			t.Errorf("after the purge there is:\n%s", out)
		}
		// What is kept is whole: the package comes back, and goes on with it.
		says(t, "rm -r /etc/framegate /etc/systemd/system/framegate.service.d; dpkg --install /mnt/framegate.deb; framegate audit verify", "intact")
		// Until the gateway starts, systemd may have its port: doctor is told so, and the gateway takes it over.
		says(t, "systemctl start framegate.socket; framegate doctor --no-self-test || :", "intercept.listen :8443: systemd listens, for the gateway to take over")
		says(t, "systemctl start framegate; framegate doctor --no-self-test || :", "intercept.listen :8443: the gateway listens", "admin.listen 127.0.0.1:9470: the gateway listens")
		// A gateway that cannot start is tried until it can.
		m.sh(t, "systemctl stop framegate; chown root /var/lib/framegate/audit; ! systemctl start framegate; until [ $(systemctl show --property=NRestarts --value framegate) -gt 5 ]; do sleep 0.2; done")
		m.sh(t, "chown framegate /var/lib/framegate/audit; until systemctl --quiet is-active framegate; do sleep 0.1; done")
		says(t, "systemctl stop framegate.socket framegate; systemctl start framegate; journalctl --sync; journalctl --no-pager | grep -c 'so one was made'", "1\n")
		m.sh(t, "dpkg --purge framegate; rm -r /var/lib/framegate")
	})

	t.Run("without systemd", func(t *testing.T) {
		const hidden = "unshare --mount sh -ec 'mount -t tmpfs tmpfs /run; "
		says(t, hidden+"dpkg --install /mnt/framegate.deb' 2>&1", "installed, and not started")
		says(t, hidden+"framegate policy check; dpkg --install /mnt/next.deb; dpkg --purge framegate' 2>&1", "ok: default", "the redirect rules are down")
		m.sh(t, "[ ! -e /etc/framegate ] && [ ! -e /usr/share/doc/framegate ]")
	})
}

// checkManual: every page renders without a warning and can be indexed, and man finds it.
func checkManual(t *testing.T, m machine) {
	pages := strings.Fields(m.sh(t, "dpkg --listfiles framegate | grep /man/ | grep 'gz$'"))
	if len(pages) < 30 {
		t.Errorf("%d pages", len(pages))
	}
	said := m.sh(t, `pages=$(dpkg --listfiles framegate | grep /man/ | grep 'gz$'); lexgrog $pages
		for page in $pages; do zcat "$page" | groff -man -Tutf8 -K utf8 -ww -z -rLL=80n 2>&1; done`)
	for line := range strings.Lines(said) {
		if !regexp.MustCompile(`^/usr/share/man/man[15]/[a-z.-]+\.[15]\.gz: "framegate[a-z.-]* - .+"$`).MatchString(strings.TrimSpace(line)) {
			t.Errorf("groff or lexgrog says: %s", line)
		}
	}
	text := m.sh(t, "MANWIDTH=80 man framegate-audit-query | col -b; MANWIDTH=80 man 5 framegate.toml | col -b")
	for _, want := range []string{"framegate-audit-query - print the records that match", "--format table|jsonl|", "framegate v" + version, "[intercept]", `listen = [":8443"]`} {
		if !strings.Contains(text, want) {
			t.Errorf("the manual lacks %q", want)
		}
	}
}

// checkCompletions: each shell finds the file by itself, and completes a command.
func checkCompletions(t *testing.T, m machine) {
	for shell, script := range map[string]string{
		"bash": `bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader framegate || :; complete -p framegate >/dev/null
			COMP_LINE="framegate audit ver"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=(framegate audit ver); COMP_CWORD=2; COMP_TYPE=9
			__start_framegate 2>/dev/null; echo "${COMPREPLY[@]}"'`,
		"fish": `HOME=/nonexistent fish --command 'complete --do-complete "framegate audit ver"'`,
		// What the function asks the program for; without a terminal zsh offers nothing.
		"zsh": `zsh -fc 'autoload -U compinit && compinit -u -D && [ $_comps[framegate] = _framegate ] && autoload +X _framegate && framegate __complete audit ver'`,
	} {
		if out := m.sh(t, script); !strings.HasPrefix(out, "verify") {
			t.Errorf("%s offers %q", shell, out)
		}
	}
}
