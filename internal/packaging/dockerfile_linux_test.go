package packaging

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An instruction of a Dockerfile.
type instruction struct{ name, args string }

// readDockerfile reads a Dockerfile without parser directives and here-documents,
// which ours has not got.
func readDockerfile(t *testing.T, name string) []instruction {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(readFile(t, name)), "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	var list []instruction
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			name, args, _ := strings.Cut(line, " ")
			list = append(list, instruction{name, strings.TrimSpace(args)})
		}
	}
	return list
}

// The Dockerfile, as far as no daemon is needed for it: bases have versions, what is
// copied exists, the command that builds makes the program of the release, and
// that runs with nothing around it but what the last stage copies, as its user.
func TestDockerfile(t *testing.T) {
	root := filepath.Join("..", "..")
	var bases, builds, entry []string
	last := make(map[string]string) // the last stage, by instruction
	copied := make(map[string]string)
	for _, in := range readDockerfile(t, filepath.Join(root, "Dockerfile")) {
		args := strings.Fields(in.args)
		switch in.name {
		case "FROM":
			args = slices.DeleteFunc(args, func(s string) bool { return strings.HasPrefix(s, "--") })
			bases = append(bases, args[0])
			clear(last)
		case "COPY":
			flags := 0
			for strings.HasPrefix(args[flags], "--") {
				flags++
			}
			from, to := args[flags:len(args)-1], args[len(args)-1]
			if strings.HasPrefix(args[0], "--from=build") {
				copied[from[0]] = to
				continue
			}
			for _, name := range from {
				if _, err := os.Stat(filepath.Join(root, name)); err != nil {
					t.Errorf("COPY: %v", err)
				}
			}
		case "RUN":
			if strings.Contains(in.args, "go build") {
				builds = append(builds, in.args)
			}
		case "ARG", "WORKDIR", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD":
			last[in.name] = in.args
		default:
			t.Errorf("the instruction %s is new: look at it here", in.name)
		}
	}

	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)\.`).FindStringSubmatch(string(readFile(t, filepath.Join(root, "go.mod"))))
	if len(bases) != 2 || !regexp.MustCompile(`^golang:`+regexp.QuoteMeta(goVersion[1])+`\.\d+-[a-z]+$`).MatchString(bases[0]) || bases[1] != "scratch" {
		t.Errorf("bases %q, Go of go.mod is %s", bases, goVersion[1])
	}
	if err := json.Unmarshal([]byte(last["ENTRYPOINT"]), &entry); err != nil || len(entry) != 1 || entry[0] != copied["/out/framegate"] {
		t.Errorf("ENTRYPOINT %s, and the program is %s", last["ENTRYPOINT"], copied["/out/framegate"])
	}
	if last["USER"] != "65532:65532" || last["CMD"] != `["run"]` || last["HEALTHCHECK"] != "NONE" || last["VOLUME"] != `["/var/lib/framegate"]` {
		t.Errorf("the last stage is %v", last)
	}
	if len(builds) != 1 || len(copied) != 3 || t.Failed() {
		t.Fatalf("%d builds, copied is %v", len(builds), copied)
	}

	dir := t.TempDir()
	build := exec.Command("sh", "-c", strings.ReplaceAll(builds[0], "/out/", dir+"/out/"))
	build.Dir = root
	build.Env = append(os.Environ(), append(stamp, "TARGETARCH=", "GOFLAGS=")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", builds[0], err, out)
	}
	if !bytes.Equal(readFile(t, dir+"/out/framegate"), readFile(t, program(t))) {
		t.Error("the program of the image is not that of the release")
	}
	t.Run("run", func(t *testing.T) { runImage(t, dir, copied) })
}

// runImage runs the program as a container of the image would: with the files
// that the image has, as its user, with no capability but CAP_NET_ADMIN, from the
// file, and in a network of its own.
func runImage(t *testing.T, dir string, copied map[string]string) {
	image := filepath.Join(dir, "image")
	const lay = `setcap cap_net_admin+ep "$1/out/framegate"; mkdir -p "$1/out/state" && chmod 700 "$1/out/state" && chown 65532:65532 "$1/out/state"
		mkdir -p "$1/image/usr/bin" "$1/image/var/lib" "$1/image/etc/ssl/certs"
		cp -a "$1/out/framegate" "$1/image$2"; cp -a "$1/out/state" "$1/image$3"; cp -L /etc/ssl/certs/ca-certificates.crt "$1/image$4"`
	if out, err := exec.Command("sh", "-ec", lay, "sh", dir, copied["/out/framegate"], copied["/out/state"], copied["/etc/ssl/certs/ca-certificates.crt"]).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// t.TempDir is for root alone.
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A capability that the file asks for and nobody grants is an error of exec.
	start := func(capabilities string, args ...string) *exec.Cmd {
		cmd := exec.Command("unshare", append([]string{"--net", "setpriv", "--bounding-set", capabilities, "--inh-caps", "-all",
			"chroot", "--userspec=65532:65532", image, "/usr/bin/framegate"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	const needed = "-all,+net_admin,+sys_chroot,+setuid,+setgid" // three are for chroot
	if out, err := start("-all,+sys_chroot,+setuid,+setgid", "version").CombinedOutput(); err == nil || !strings.Contains(string(out), "not permitted") {
		t.Errorf("without CAP_NET_ADMIN: %v, %s", err, out)
	}

	var said bytes.Buffer
	cmd := start(needed, "run")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	log := filepath.Join(image, "var/lib/framegate/audit/seg/000000000000.jsonl.zst")
	for range 300 {
		if fi, err := os.Stat(log); err == nil && fi.Size() > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil || !strings.Contains(said.String(), "msg=ready ") || !strings.Contains(said.String(), "msg=stopped ") {
		t.Errorf("the gateway ended with %v:\n%s", err, said.String())
	}
	if out, err := start(needed, "audit", "verify").CombinedOutput(); err != nil {
		t.Errorf("audit verify: %v\n%s", err, out)
	}
}
