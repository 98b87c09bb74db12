package localstack_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

// promtool is a component that is no server.
const promtool localstack.Engine = "promtool"

func TestAlertRulesAreValidAndFireWhenTheyShould(t *testing.T) {
	localstacktest.Installed(t, promtool)
	program, err := localstack.ProgramOf(promtool)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../deploy/alerts.yaml", "../deploy/alerts_test.yaml"} {
		// Looked at here, so that a pass is not taken from the cache when only they have changed.
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(program, args...)
		cmd.Dir = "../deploy"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
