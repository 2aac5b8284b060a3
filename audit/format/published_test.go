package format

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// words are the words of a file without its comments.
func words(t *testing.T, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for l := range strings.Lines(string(b)) {
		if w := strings.Fields(l); len(w) > 0 && w[0] != "#" {
			lines = append(lines, w)
		}
	}
	return lines
}

// Every field is one of the published list, of the published type, or of our own.
func TestECSFields(t *testing.T) {
	types := make(map[string][]string)
	for _, w := range words(t, "testdata/ecs.txt") {
		types[w[0]] = w[1:]
	}
	allowed := slices.Concat(words(t, "testdata/ecs-types.txt")...)
	for _, f := range ecsFields("1.0") {
		if strings.HasPrefix(f.name, "framegate.") {
			continue
		}
		want, ok := types[f.name]
		if !ok {
			t.Errorf("%s is not in the published list", f.name)
			continue
		}
		for _, r := range samples(t) {
			v := f.value(r)
			good := true
			switch v := v.(type) {
			case nil:
			case string:
				good = slices.Contains([]string{"keyword", "wildcard", "date", "ip"}, want[0])
				if want[0] == "ip" {
					_, err := netip.ParseAddr(v)
					good = err == nil
				}
			case int64:
				good = want[0] == "long"
			case []string:
				// Every field of Elasticsearch may have several values.
				good = want[0] == "keyword" || want[0] == "ip"
			default:
				good = false
			}
			if !good {
				t.Errorf("%s is %v, which is no %v", f.name, v, want)
			}
		}
	}
	for _, r := range samples(t) {
		category, kinds := ecsCategory(r)
		if len(category) == 0 || len(kinds) == 0 {
			t.Errorf("%s has no category", r.Event)
		}
		for _, k := range kinds {
			if !slices.Contains(allowed, k) {
				t.Errorf("%s: event.type %s is not allowed", r.Event, k)
			}
		}
	}
}

func TestCEFKeys(t *testing.T) {
	known := slices.Concat(words(t, "testdata/cef.txt")...)
	for _, f := range extension {
		if !slices.Contains(known, f.name) && !strings.HasPrefix(f.name, "framegate") {
			t.Errorf("%s is not in the published list", f.name)
		}
	}
	for _, r := range samples(t) {
		_, ext := parseCEF(t, line(t, "cef", r))
		for key := range ext {
			if base, ok := strings.CutSuffix(key, "Label"); ok && ext[base] == "" {
				t.Errorf("%s: %s without %s", r.Event, key, base)
			}
		}
	}
}

// Every attribute is one that its class has, and each class has what it must.
func TestOCSFAttributes(t *testing.T) {
	classes := make(map[string][]string)
	for _, w := range words(t, "testdata/ocsf.txt") {
		classes[w[1]] = strings.Split(w[0], ",")
	}
	seen := make(map[int64]bool)
	for _, r := range samples(t) {
		c := classOf(r)
		seen[c.uid] = true
		has := make(map[string]bool)
		for _, f := range ocsfFields("1.0") {
			if f.value(r) == nil {
				continue
			}
			top, _, _ := strings.Cut(f.name, ".")
			has[top] = true
			name := f.name
			if top == "unmapped" {
				name = top
			}
			if !slices.Contains(classes[name], strconv.FormatInt(c.uid, 10)) {
				t.Errorf("%s: class %d has no %s", r.Event, c.uid, f.name)
			}
		}
		need := []string{"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata"}
		switch c.uid {
		case networkActivity:
			need = append(need, "dst_endpoint", "src_endpoint", "connection_info")
		case httpActivity:
			need = append(need, "http_response", "dst_endpoint")
		case dataFinding:
			need = append(need, "finding_info", "data_security")
		}
		for _, name := range need {
			if !has[name] {
				t.Errorf("%s: class %d without %s", r.Event, c.uid, name)
			}
		}
	}
	for _, uid := range []int64{0, dataFinding, networkActivity, httpActivity} {
		if !seen[uid] {
			t.Errorf("no sample of class %d", uid)
		}
	}
}
