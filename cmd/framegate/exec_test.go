package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSystemResolvers(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.1\n", "[192.0.2.1 2001:db8::1]"},
		{"# nameserver 192.0.2.1\n\tnameserver\t127.0.0.53 # stub\noptions edns0\n", "[127.0.0.53]"},
		{"nameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.7\nnameserver x\nnameserver\n", "[192.0.2.7]"},
		{"search example.com\n", "[127.0.0.1]"}, // resolv.conf(5): the local machine
		{strings.Repeat("nameserver 192.0.2.1\n", 9), "[192.0.2.1]"},
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := systemResolvers(file); err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		}
	}
	if got, err := systemResolvers(filepath.Join(t.TempDir(), "none")); err != nil || fmt.Sprint(got) != "[127.0.0.1]" {
		t.Errorf("no file: %v, %v", got, err)
	}
}

func TestExecEnvironment(t *testing.T) {
	u := &execUser{credential: &syscall.Credential{Uid: 7}, name: "ann"}
	t.Setenv("SUDO_HOME", "/home/ann")
	env := u.environment([]string{"PATH=/bin", "HOME=/root", "USER=root", "SUDO_UID=7", "SUDO_COMMAND=x"})
	for name, want := range map[string]string{"PATH": "/bin", "HOME": "/home/ann", "USER": "ann", "LOGNAME": "ann", "SUDO_UID": "", "SUDO_COMMAND": ""} {
		if got := lookup(env, name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	same := []string{"HOME=/root", "SUDO_UID=0"}
	if got := new(execUser).environment(same); !slices.Equal(got, same) {
		t.Errorf("root's: %q", got)
	}
}

// What listens on a loopback is found in the kernel's list, in either family.
func TestListens(t *testing.T) {
	for _, tt := range []struct {
		listen string
		v4, v6 bool
	}{
		{"127.0.0.1:0", true, false}, {"[::1]:0", false, true}, {"0.0.0.0:0", true, false}, {"[::]:0", true, true},
	} {
		network := "tcp"
		if strings.HasPrefix(tt.listen, "0.") {
			network = "tcp4" // else it is dual stack
		}
		ln, err := net.Listen(network, tt.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		if got := [2]bool{listens(netip.AddrPortFrom(loopback4, port)), listens(netip.AddrPortFrom(loopback6, port))}; got != [2]bool{tt.v4, tt.v6} {
			t.Errorf("%s: %v", tt.listen, got)
		}
	}
}

// The terminal is the command's: warnings wait, and what the summary says itself
// is not said twice.
func TestHeldConsole(t *testing.T) {
	var out bytes.Buffer
	c := &heldConsole{out: &out}
	fmt.Fprintf(c, "time=T level=INFO msg=ready\n")
	fmt.Fprintf(c, "time=T level=WARN msg=%q\n", noRules)
	for i := range mostHeld + 3 {
		fmt.Fprintf(c, "time=T level=WARN msg=\"level=INFO %d\"\n", i)
	}
	if out.Len() > 0 {
		t.Errorf("before the end: %q", out.String())
	}
	c.release()
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != mostHeld+1 || got[0] != `framegate: level=WARN msg="level=INFO 0"` || got[mostHeld] != "framegate: 3 lines more of the gateway: --verbose prints them" {
		t.Errorf("%q", got)
	}
}

// Of a file that the user names only the certificates are copied: it may be one
// that root alone may read.
func TestExecTrustCopiesCertificatesOnly(t *testing.T) {
	const cert, key = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	dir := t.TempDir()
	for text, want := range map[string]string{
		"# roots\n" + cert + "secret\n" + key + cert: cert + cert,
		"root:$6$secret:\n":                          "",
		key:                                          "",
	} {
		name := filepath.Join(dir, "list.pem")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := certificatesIn(name); string(got) != want {
			t.Errorf("%q: %q, expected %q", text, got, want)
		}
	}
	for _, name := range []string{dir, "/dev/zero", filepath.Join(dir, "none")} {
		if got := certificatesIn(name); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
