#!/usr/bin/env bash
# Installs the components that tests and the local stack run against, each in its own folder of .cache (or of LOCALSTACK_COMPONENTS):
#
#   components.sh          MinIO, ministack, dynalite, HAProxy and promtool
#   components.sh all      these and dynoxide, for benchmarks; optional everywhere
#   components.sh status   says which are there and what does not run without the others
#
# What can't be had does not stop the rest, and fails the script only where CI is set. A folder gets its name when it is complete, so one
# that was cut off is never taken for an installed component. Must run on bash 3.2, which is what macOS has.
set -uo pipefail
cd "$(dirname "$0")/.."
cache=${LOCALSTACK_COMPONENTS:-$PWD/.cache}

# facts sets folder, version and program of a component from the one list of versions.
facts() {
	local name short
	while read -r name short version program; do
		if [ "$name" = "$1" ]; then
			folder=$cache/$name-$short
			return
		fi
	done <localstack/versions
	echo "components: $1 is not in localstack/versions" >&2
	exit 1
}

# without says what does not run when a component is absent.
without() {
	case $1 in
	minio) echo "tests of the bucket on a real object store, end-to-end tests on real stores, make stack" ;;
	ministack) echo "tests of the table on a real server, end-to-end tests on real stores, make stack" ;;
	dynalite) echo "tests of the table on a second server, and on one that is killed" ;;
	haproxy) echo "tests of agents behind a load balancer, make stack AGENTS=3" ;;
	promtool) echo "tests of the alert rules (deploy/)" ;;
	dynoxide) echo "benchmarks on a fast table server (optional)" ;;
	esac
}

# takes says how long an installation keeps one waiting, where that is long.
takes() {
	case $1 in
	minio) echo ": compiles for about five minutes on two cores, the first time" ;;
	dynoxide) echo ": compiles for five to ten minutes on two cores" ;;
	esac
}

# needs answers what a component wants of this machine and does not find; nothing when all is there.
needs() { # name, install or run
	case $1-$2 in
	minio-install) command -v go >/dev/null || echo "go" ;;
	ministack-*)
		if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
			echo "python3, 3.10 or later"
		elif [ "$2" = install ] && ! python3 -m pip --version >/dev/null 2>&1; then
			echo "pip for python3"
		fi
		;;
	dynalite-*)
		if ! command -v node >/dev/null; then
			echo "node"
		elif [ "$2" = install ] && ! command -v npm >/dev/null; then
			echo "npm"
		fi
		;;
	dynoxide-install) command -v cargo >/dev/null || echo "cargo" ;;
	haproxy-install | promtool-install)
		if [ -z "$(here "$1")" ] && ! { command -v apt-get && command -v dpkg-deb; } >/dev/null; then
			case $1 in
			haproxy) echo "haproxy 2.4 or later on PATH (brew install haproxy, or the package of your system)" ;;
			promtool) echo "promtool 2.31 or later on PATH (brew install prometheus, or the package of your system)" ;;
			esac
		fi
		;;
	esac
}

# here answers a HAProxy or promtool of this machine that is new enough. A user's PATH may lack the folder that it is in.
here() { # name
	local program
	program=$(PATH=$PATH:/usr/local/sbin:/usr/sbin command -v "$1") && recent "$1" "$program" && echo "$program"
}

# recent says whether a program is HAProxy 2.4 or later, or promtool 2.31 or later.
recent() { # name, program
	local least=204
	[ "$1" = haproxy ] || least=231
	[[ $(stated "$@") =~ version\ ([0-9]+)\.([0-9]+) ]] && [ $((BASH_REMATCH[1] * 100 + BASH_REMATCH[2])) -ge $least ]
}

stated() { # name, program
	local ask=-v
	[ "$1" = haproxy ] || ask=--version
	"$2" $ask 2>&1 | head -n 1
}

# The installers put a component into the folder $1 and print what goes wrong.

install_minio() {
	GOBIN=$1 go install -v "github.com/minio/minio@$version"
}

install_ministack() {
	# Its dependencies are pinned too: with open ranges a new release of one of them breaks an old version.
	PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_WARN_SCRIPT_LOCATION=1 \
		python3 -m pip install --quiet --target "$1" --constraint localstack/ministack-constraints.txt "ministack==$version"
}

install_dynalite() {
	npm install --prefix "$1" --no-audit --no-fund --no-update-notifier --loglevel=error --no-save "dynalite@$version"
}

install_dynoxide() {
	cargo install --quiet --locked --root "$1" dynoxide-rs --version "$version" --no-default-features --features native-sqlite,http-server,cli
}

# A HAProxy of this machine is used as it is. Else the package is unpacked here, with the libraries that this machine lacks.
install_haproxy() {
	if linked haproxy "$1"; then
		return
	fi
	unpack "$1" wanting_libraries haproxy || return
	cat >"$1/haproxy" <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for folder in "$here"/lib/*-linux-* "$here"/usr/lib/*-linux-*; do
	LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/usr/sbin/haproxy" "$@"
END
	chmod 755 "$1/haproxy"
	checked haproxy "$1"
}

# Likewise promtool, which is in the package of Prometheus, and needs nothing else of it.
install_promtool() {
	if linked promtool "$1"; then
		return
	fi
	unpack "$1" alone prometheus || return
	mv "$1/usr/bin/promtool" "$1/promtool" && rm -rf "$1/usr" "$1/etc" "$1/lib" "$1/var" && checked promtool "$1"
}

linked() { # name, folder
	local program
	program=$(here "$1") && ln -s "$program" "$2/$1"
}

checked() { # name, folder
	recent "$1" "$2/$1" || {
		echo "this is not $1 $version: $(stated "$1" "$2/$1")"
		rm "$2/$1"
		return 1
	}
}

# unpack unpacks a package of Debian into a folder: nothing is installed, so nobody need be root. Package lists that are absent or too old
# are fetched, but into the folder too.
unpack() { # folder, what names the packages, package
	download "$@" || {
		echo "once more, with package lists of today"
		mkdir -p "$1/apt/lists/partial"
		apt-get update -o Dir::State::Lists="$1/apt/lists" -o Dir::Cache="$1/apt" -o APT::Sandbox::User="$(id -un)" &&
			download "$@" -o Dir::State::Lists="$1/apt/lists" -o Dir::Cache="$1/apt"
	} || return
	local archive
	for archive in "$1"/*.deb; do
		dpkg-deb -x "$archive" "$1" || return
	done
	rm -rf "$1/apt" "$1"/*.deb
}

download() { # folder, what names the packages, package, options of apt-get
	local folder=$1 naming=$2 package=$3 packages
	shift 3
	packages=$("$naming" "$package" "$@") && [ -n "$packages" ] &&
		(cd "$folder" && apt-get download "$@" -o APT::Sandbox::User="$(id -un)" $packages)
}

# wanting_libraries names a package and all that apt would install with it. libc6 goes with the machine.
wanting_libraries() { # package, options of apt-get
	local package=$1 packages
	shift
	packages=$(apt-get install --simulate --no-install-recommends "$@" "$package") || return
	awk '$1 == "Inst" && $2 != "libc6" { print $2 }' <<<"$packages"
}

alone() { # package
	echo "$1"
}

temporary= watcher=
clean() {
	[ -z "$watcher" ] || kill "$watcher" 2>/dev/null
	[ -z "$temporary" ] || rm -rf "$temporary" "$temporary.log"
	temporary= watcher=
}
trap clean EXIT
trap 'exit 130' INT TERM

# watch says every 15 s how far an installation is, by what it has logged.
watch() { # name, log
	local seconds=0
	while sleep 1; do
		seconds=$((seconds + 1))
		[ $((seconds % 15)) -ne 0 ] || echo "$1: $(grep -c '^go: downloading' "$2") modules downloaded, $(grep -vc '^go: ' "$2") of about 1,300 packages compiled after $seconds s"
	done
}

install() { # name
	local absent begin=$SECONDS
	facts "$1"
	if [ -e "$folder/$program" ]; then
		echo "$1 $version: there"
		return 0
	fi
	absent=$(needs "$1" install)
	if [ -n "$absent" ]; then
		echo "$1 $version: NOT INSTALLED: needs $absent. Without it does not run: $(without "$1")"
		return 1
	fi
	echo "$1 $version: installing$(takes "$1")"
	# What a killed installation has left; another one may be under way.
	find "$cache" -maxdepth 1 -name ".installing-$1.*" -mmin +120 -exec rm -rf {} + 2>/dev/null
	mkdir -p "$cache" && temporary=$(mktemp -d "$cache/.installing-$1.XXXXXX") || return 1
	if [ "$1" = minio ]; then
		watch "$1" "$temporary.log" &
		watcher=$!
	fi
	if "install_$1" "$temporary" >"$temporary.log" 2>&1 && [ -e "$temporary/$program" ]; then
		chmod 755 "$temporary"
		[ -e "$folder/$program" ] || { rm -rf "$folder" && mv "$temporary" "$folder"; } || return 1
		echo "$1 $version: installed in $((SECONDS - begin)) s"
	else
		tail -n 15 "$temporary.log" | sed 's/^/  /'
		echo "$1 $version: NOT INSTALLED, see above. Without it does not run: $(without "$1")"
		clean
		return 1
	fi
	clean
}

status() {
	local name absent incomplete=
	for name in minio ministack dynalite haproxy promtool dynoxide; do
		facts "$name"
		absent=$(needs "$name" run)
		if [ ! -e "$folder/$program" ]; then
			echo "$name: not installed. NOT RUN: $(without "$name")"
			incomplete=yes
		elif [ -n "$absent" ]; then
			echo "$name: installed, but needs $absent. NOT RUN: $(without "$name")"
		else
			echo "$name: there"
		fi
	done
	[ -z "$incomplete" ] || echo "'make components' installs the components, 'make components-all' the optional one too"
}

components="minio ministack dynalite haproxy promtool"
case ${1:-} in
"") ;;
all) components="$components dynoxide" ;;
status)
	status
	exit
	;;
*)
	echo "usage: localstack/components.sh [all | status]" >&2
	exit 2
	;;
esac

failed=
for component in $components; do
	install "$component" || [ "$component" = dynoxide ] || failed=yes
done
[ -z "$failed" ] || [ -z "${CI:-}" ]
