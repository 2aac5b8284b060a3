package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"framegate/intercept"
)

// A running is the gateway that has this configuration's log.
type running struct {
	pid int
	uid int
}

// checkGateway looks for the gateway by what it holds: the lock of the audit
// directory, which goes with its process.
func (d *doctor) checkGateway(context.Context) []diagnosis {
	pid, err := lockHolder(d.config.Audit.Dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []diagnosis{warn(d.asRoot(), "whether one runs cannot be seen: %v", err)}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return []diagnosis{warn(d.asRoot(), "whether one runs is not known: %v", err)}
	case pid == 0:
		return []diagnosis{warn("systemctl start framegate  # or "+d.command("run"), "none runs with the log in %s", d.config.Audit.Dir)}
	}
	d.gateway = &running{pid: pid, uid: -1}
	if uids := strings.Fields(d.gateway.status("Uid")); len(uids) > 1 {
		d.gateway.uid, _ = strconv.Atoi(uids[1]) // the effective one, proc_pid_status(5)
	}
	return []diagnosis{pass("process %d, user %d", pid, d.gateway.uid)}
}

// lockHolder returns the process that holds the flock of a directory, 0 if none
// does. It reads the kernel's list: to try the lock could keep a gateway from
// starting.
func lockHolder(dir string) (pid int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	locks, err := readText("/proc/locks")
	if err != nil {
		return 0, err
	}
	// "1: FLOCK  ADVISORY  WRITE 4711 fe:00:10334942 0 EOF", proc_locks(5).
	want := fmt.Sprintf("%02x:%02x:%d", major(st.Dev), minor(st.Dev), st.Ino)
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" {
			continue
		}
		if f[5] != want {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 { // of another PID namespace it is 0 or -1
			return pid, nil
		}
	}
	return 0, nil
}

// major and minor take a device apart as makedev(3) puts it together.
func major(dev uint64) uint64 { return dev>>8&0xfff | dev>>32&^uint64(0xfff) }
func minor(dev uint64) uint64 { return dev&0xff | dev>>12&^uint64(0xff) }

func (r *running) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(r.pid), name)
}

// status is one field of /proc/PID/status, "" if it cannot be read.
func (r *running) status(key string) string {
	text, _ := readText(r.proc("status"))
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// checkPrivileges is about CAP_NET_ADMIN, without which no socket gets its mark
// (socket(7)), and our own connections could be redirected to us.
func (d *doctor) checkPrivileges(context.Context) []diagnosis {
	self, err := os.Executable()
	if err != nil {
		self = "/usr/bin/framegate"
	}
	fix := "setcap cap_net_admin=ep " + shellWord(self) + "  # under systemd AmbientCapabilities=CAP_NET_ADMIN; then restart the gateway"
	if d.gateway != nil {
		const netAdmin, netRaw = 12, 13 // linux/capability.h; since Linux 5.17 either will do
		caps, err := strconv.ParseUint(d.gateway.status("CapEff"), 16, 64)
		switch {
		case err != nil:
			return []diagnosis{warn(d.asRoot(), "the capabilities of process %d cannot be seen", d.gateway.pid)}
		case caps&(1<<netAdmin|1<<netRaw) == 0:
			return []diagnosis{fail(fix, "the gateway lacks CAP_NET_ADMIN: its connections get no mark")}
		}
		return []diagnosis{pass("the gateway has CAP_NET_ADMIN")}
	}
	switch err := intercept.CheckMark(d.config.Intercept.Mark); {
	case err == nil:
		return []diagnosis{pass("connections can be marked")}
	case os.Geteuid() != 0:
		return []diagnosis{warn(d.asRoot(), "not checked: this user may not mark connections, the gateway's has to (CAP_NET_ADMIN)")}
	default:
		return []diagnosis{fail(fix, "connections cannot be marked: CAP_NET_ADMIN is missing")}
	}
}

// checkDescriptors compares the limit of open files with limits.max_connections:
// a connection takes two.
func (d *doctor) checkDescriptors(context.Context) []diagnosis {
	limit, whose := uint64(0), "of this process"
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil {
		limit = r.Cur
	}
	raise := "ulimit -n %d  # in the shell that starts it; under systemd LimitNOFILE=%[1]d"
	if d.gateway != nil {
		text, _ := readText(d.gateway.proc("limits"))
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, "Max open files"); ok && len(strings.Fields(rest)) > 0 {
				soft, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					soft = math.MaxUint64 // "unlimited"
				}
				limit, whose = soft, "of the gateway"
				raise = fmt.Sprintf("prlimit --pid %d", d.gateway.pid) + " --nofile=%[1]d:%[1]d  # for good: LimitNOFILE=%[1]d in the unit"
			}
		}
	}
	room := int64(max(min(limit, math.MaxInt32), spareFiles)-spareFiles) / 2
	want := int64(d.config.Limits.MaxConnections)
	switch {
	case want > room:
		return []diagnosis{fail(fmt.Sprintf(raise, 2*want+spareFiles),
			"the limit %s is %d open files, enough for %d connections; limits.max_connections = %d", whose, limit, room, want)}
	case want == 0 && room < fewConnections:
		return []diagnosis{warn(fmt.Sprintf(raise, 2*fewConnections+spareFiles),
			"the limit %s is %d open files: no more than %d connections at once", whose, limit, room)}
	}
	return []diagnosis{pass("the limit %s is %d open files, enough for %d connections", whose, limit, room)}
}

// fewConnections is what an office of a hundred people soon exceeds.
const fewConnections = 2000

// What a connection takes of all memory, idle (docs/PERFORMANCE.md) and set aside
// for its messages, and below how much memory there is no room for a message of
// limits.max_message in both directions.
const (
	connectionMemory = 64<<10 + messageCost
	leastMemory      = 256 << 20
)

func (d *doctor) checkMemory(context.Context) []diagnosis {
	probe := ownMemory
	if d.gateway != nil {
		probe = memoryProbe{d.gateway.proc(""), d.gateway.proc("root")}
	}
	limit := probe.limit(probe.groups())
	usable := limit / 100 * uint64(d.config.Limits.Memory)
	if usable < leastMemory {
		return []diagnosis{warn("systemctl set-property framegate MemoryMax=1G  # or a larger machine, or limits.memory",
			"new connections are refused above %s", binarySize(usable))}
	}
	if n := uint64(d.config.Limits.MaxConnections); n*connectionMemory > limit {
		return []diagnosis{warn(fmt.Sprintf("systemctl set-property framegate MemoryMax=%d  # or limits.max_connections = %d",
			n*connectionMemory, limit/connectionMemory),
			"limits.max_connections = %d want %s, with what is set aside for their messages, and there are %s",
			n, binarySize(n*connectionMemory), binarySize(limit))}
	}
	return []diagnosis{pass("new connections are refused above %s", binarySize(usable))}
}

// binarySize is a size for people.
func binarySize(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// checkClock compares the clock with files that were written on this machine, and
// asks the kernel whether anybody keeps it right.
func (d *doctor) checkClock(context.Context) []diagnosis {
	now := time.Now()
	const tolerance = 10 * time.Second
	for _, name := range []string{
		filepath.Join(d.config.Audit.Dir, "checkpoint"), filepath.Join(d.config.CA.Dir, "root.crt"), "/proc/self/exe",
	} {
		info, err := os.Stat(name)
		if err == nil && info.ModTime().After(now.Add(tolerance)) {
			return []diagnosis{fail("timedatectl set-ntp true  # wait until timedatectl says: synchronized",
				"it is %s, and %s was written on %s: the clock was set back", now.UTC().Format(time.RFC3339), name, info.ModTime().UTC().Format(time.RFC3339))}
		}
	}
	// adjtimex(2): STA_UNSYNC is set until something keeps the clock in step.
	const unsynchronised = 0x40
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return []diagnosis{warn("timedatectl", "whether it is synchronised is not known: %v", err)}
	}
	if t.Status&unsynchronised != 0 {
		return []diagnosis{warn("timedatectl set-ntp true", "it is %s, and nothing keeps it in step: the times in the log prove little", now.UTC().Format(time.RFC3339))}
	}
	return []diagnosis{pass("synchronised, %s", now.UTC().Format(time.RFC3339))}
}
