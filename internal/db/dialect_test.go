package db_test

import (
	"context"
	"database/sql"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/tools/go/packages"

	"mittente/internal/account"
	"mittente/internal/alert"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/letter"
	"mittente/internal/node"
	"mittente/internal/queue"
	"mittente/internal/reason"
	"mittente/internal/sender"
	"mittente/internal/signer"
	"mittente/internal/spool"
	"mittente/internal/submission"
)

const sqlType = "mittente/internal/db.SQL"

// schemas are those of all rooms; TestSchemasAreAllKnown finds one that is missing.
func schemas() []db.Schema {
	return []db.Schema{account.Schema(), signer.Schema(), letter.Schema(), sender.Schema(), event.Schema(), queue.Schema(), node.Schema(), reason.Schema(), spool.Schema(), alert.Schema(), submission.Schema()}
}

// statement is a constant of type db.SQL somewhere in the program.
type statement struct{ where, name, text string }

// onlyPostgres reports whether SQLite never sees the statement (db.Dialect.Choose).
func (s statement) onlyPostgres() bool { return strings.HasSuffix(s.name, "Postgres") }

// Every statement of every room is understood by both engines, on the tables
// that the rooms' own migrations make.
func TestStatementsOnBothEngines(t *testing.T) {
	statements := collect(t)
	if len(statements) < 20 {
		t.Fatalf("only %d statements found", len(statements))
	}
	t.Run("SQLite", func(t *testing.T) {
		d, err := db.Open(t.Context(), db.Config{DataDir: t.TempDir()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Migrate(t.Context(), schemas()...); err != nil {
			t.Fatal(err)
		}
		for _, s := range statements {
			if s.onlyPostgres() {
				continue
			}
			if err := db.Prepare(t.Context(), d, db.SQL(s.text)); err != nil {
				t.Errorf("%s: %v\n%s", s.where, err, s.text)
			}
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		pool := postgres(t)
		for _, s := range schemas() {
			if err := db.MigratePostgres(t.Context(), pool, s); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range statements {
			stmt, err := pool.PrepareContext(t.Context(), s.text)
			if err != nil {
				t.Errorf("%s: %v\n%s", s.where, err, s.text)
				continue
			}
			stmt.Close() //nolint:sqlclosecheck // there are many
		}
	})
	t.Logf("%d statements", len(statements))
}

// A room with a folder "schema" is in the list above.
func TestSchemasAreAllKnown(t *testing.T) {
	folders, err := filepath.Glob("../*/schema")
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	var found, known []string
	for _, f := range folders {
		found = append(found, filepath.Base(filepath.Dir(f)))
	}
	for _, s := range schemas() {
		known = append(known, s.Room)
	}
	slices.Sort(known)
	if !slices.Equal(found, known) {
		t.Errorf("rooms with a schema: %q, in the list of this test: %q", found, known)
	}
}

// collect reads the whole program and returns its statements; what is made at
// run time, and so can't be tried beforehand, is an error.
func collect(t *testing.T) []statement {
	t.Helper()
	cfg := &packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes |
			packages.NeedTypesInfo | packages.NeedImports,
		Dir: "../..", Context: t.Context(),
	}
	found, err := packages.Load(cfg, "./cmd/...", "./internal/...")
	if err != nil {
		t.Fatal(err)
	}
	var statements []statement
	for _, p := range found {
		for _, e := range p.Errors {
			t.Fatalf("%s: %v", p.PkgPath, e)
		}
		for _, file := range p.Syntax {
			c := collector{pkg: p, names: map[ast.Expr]string{}}
			ast.Inspect(file, c.visit)
			statements = append(statements, c.found...)
			for _, where := range c.dynamic {
				t.Errorf("%s: a statement that is not a constant", where)
			}
		}
	}
	return statements
}

type collector struct {
	pkg     *packages.Package
	names   map[ast.Expr]string // of constants, by their values
	found   []statement
	dynamic []string
}

// visit looks at one node; the parts of what it has understood need no visit.
func (c *collector) visit(n ast.Node) bool {
	if spec, ok := n.(*ast.ValueSpec); ok {
		for i, value := range spec.Values {
			c.names[value] = spec.Names[min(i, len(spec.Names)-1)].Name
		}
	}
	expr, ok := n.(ast.Expr)
	if !ok {
		return true
	}
	tv, ok := c.pkg.TypesInfo.Types[expr]
	if !ok || tv.IsType() || tv.Type == nil || types.TypeString(tv.Type, nil) != sqlType {
		return true
	}
	if tv.Value != nil {
		if _, isName := expr.(*ast.Ident); isName {
			return false // seen where it is declared
		}
		if _, isName := expr.(*ast.SelectorExpr); isName {
			return false
		}
		where := c.pkg.Fset.Position(expr.Pos()).String()
		c.found = append(c.found, statement{where, c.names[expr], constant.StringVal(tv.Value)})
		return false
	}
	if c.isMade(expr) {
		c.dynamic = append(c.dynamic, c.pkg.Fset.Position(expr.Pos()).String())
	}
	return true
}

// isMade reports whether expr, of type db.SQL and no constant, is a text made
// at run time: converted or put together.
func (c *collector) isMade(expr ast.Expr) bool {
	switch e := expr.(type) {
	case *ast.CallExpr:
		return c.pkg.TypesInfo.Types[e.Fun].IsType()
	case *ast.BinaryExpr:
		return true
	}
	return false
}

// postgres starts a server of its own, without a port, and returns a pool on it.
func postgres(t *testing.T) *sql.DB {
	t.Helper()
	const bin = "/usr/lib/postgresql/15/bin"
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		if os.Getenv("MITTENTE_TEST_ALL") == "1" {
			t.Fatalf("PostgreSQL 15 is needed: apt-get install postgresql-15 (%v)", err)
		}
		t.Skipf("PostgreSQL 15 is not installed: its half of this test is left out (%v)", err)
	}
	// Its socket's path must be short, and its user must reach it.
	dir, err := os.MkdirTemp("", "mittente-pg") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	as := chownToPostgres(t, dir)
	data := filepath.Join(dir, "data")
	run := func(ctx context.Context, name string, args ...string) error {
		args = append(append(slices.Clone(as), filepath.Join(bin, name)), args...)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, out)
		}
		return nil
	}
	if err := run(t.Context(), "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C"); err != nil {
		t.Fatal(err)
	}
	options := "-k " + dir + " -c listen_addresses='' -c fsync=off"
	if err := run(t.Context(), "pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", options, "start"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run(context.Background(), "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"); err != nil {
			t.Error(err)
		}
	})
	dsn := "postgres:///postgres?user=postgres&host=" + url.QueryEscape(dir)
	pool, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// chownToPostgres gives dir to the user postgres when the test runs as root,
// which a server refuses to, and returns the command that changes to that user.
func chownToPostgres(t *testing.T, dir string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return []string{"runuser", "-u", "postgres", "--"}
}
