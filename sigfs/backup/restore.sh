if [ -z "${sigfs_restoring-}" ]; then
# Needs a POSIX shell and coreutils, or busybox; nothing else. What follows this part is the data, one call a job,
# which is read once for each pass: the shell never has more of it in memory than one job.

LC_ALL=C
export LC_ALL
unset CDPATH
IFS=' 	
'
set -fC # no file name patterns; > makes a file or fails

usage() {
    cat <<'EOF'
restore.sh restores jobs of a signac project from what it has in itself.

usage: sh restore.sh [OPTIONS] COMMAND

  workspace [COPY] WORKSPACE     put back state points and documents that are missing from the job directories in
                                 WORKSPACE. Job directories that are missing are copied from COPY first, where they
                                 are by id or as in the view, or made anew without data
  project [COPY] PROJECT         the same for a project: its configuration, its document, its workspace, and the jobs
                                 that it has outside of that
  links TARGET [WORKSPACE]       make the view in TARGET, as symbolic links to the jobs in WORKSPACE
  copies TARGET [WORKSPACE]      make the view in TARGET, as copies
  verify WORKSPACE               say what is missing, and what is not as it was
  list                           print key and path in the view of each job

options:
  -n, --dry-run    say what would be done, and do nothing
  -v, --verbose    say each thing that is done
  --aside          give what differs another name, NAME.1~ and so on, and put back what was
  --removed        workspace, project: the jobs, too, that had been removed when the backup was made
  -h, --help

Nothing is ever overwritten: what is there and differs is named and stays. It can be run again at any time, also after
it has been killed. Exit code: 0 all is as it was; 1 something is not, or could not be done; 2 wrong usage.
EOF
}

shown() { # like echo, on one line whatever it says
    case $* in
    *[[:cntrl:]]*) printf '%s' "$*" | cat -v | tr '\n' '?' && echo ;;
    *) printf '%s\n' "$*" ;;
    esac
}

trouble() {
    troubles=$((troubles + 1))
    shown "restore.sh: $*" >&2
}

wrong() {
    shown "restore.sh: $*; see sh restore.sh -h" >&2
    exit 2
}

done_or_would() {
    [ -z "$verbose" ] || shown "$*"
}

absolute() { # sets REPLY
    case $1 in
    '') wrong "an empty path is no directory" ;;
    /*) REPLY=$1 ;;
    *) REPLY=${here%/}/$1 ;;
    esac
    while :; do
        case $REPLY in
        /) return ;;
        */) REPLY=${REPLY%/} ;;
        */.) REPLY=${REPLY%.} ;;
        *) return ;;
        esac
    done
}

physical() { # as absolute, without symbolic links; the directory must be there
    absolute "$1"
    REPLY=$(cd -P -- "$REPLY" && pwd -P && echo .) || exit 1
    REPLY=${REPLY%??}
}

pass() { # calls its argument with the data of each job
    on_job=$1
    # shellcheck disable=SC1090
    . "$self"
}

j() { # KEY VIEW WHERE SUM STATEPOINT [SUM DOCUMENT]: a job; WHERE, from the project, if it is outside of the workspace
    "$on_job" "$@"
}

g() { # the same, of a job that had been removed
    [ -z "$removed" ] || "$on_job" "$@"
}

d() { # directories of the view
    "$on_directories" "$@"
}

f() { # PATH SUM CONTENT: a file of the project; PATH begins with ./ or, in the workspace, with %/
    "$on_file" "$@"
}

nothing() {
    :
}

# One file

content() {
    case $1 in
    =*) printf %s "${1#=}" ;;
    %*)
        # shellcheck disable=SC2059
        printf "${1#%}"
        ;;
    esac
}

make() { # PATH CONTENT
    full=
    if { content "$2" || full=1; } >"$1"; then
        if [ -z "$full" ]; then
            written=$((written + 1))
            return
        fi
        rm -f -- "$1"
    fi
    trouble "$1: could not be written"
    return 1
}

put() { # PATH CONTENT
    if [ -h "$1" ]; then
        trouble "$1: is a symbolic link, and stays"
    elif [ -f "$1" ]; then
        there=$((there + 1))
    elif [ -e "$1" ]; then
        trouble "$1: is no file, and stays"
    elif [ -n "$dry" ]; then
        written=$((written + 1))
        done_or_would "+ $1"
    else
        make "$1" "$2" && done_or_would "+ $1"
    fi
}

mend() { # PATH SUM CONTENT: look at a file that is there
    if [ -h "$1" ] || [ ! -f "$1" ]; then
        return # said already
    fi
    found=$(sha256sum <"$1") || {
        trouble "$1: cannot be read"
        return
    }
    [ "${found%% *}" != "$2" ] || return
    if [ "$command" = verify ]; then
        trouble "$1: is not as it was"
        return
    fi
    there=$((there - 1))
    size=$(wc -c <"$1")
    begun=$(content "$3" | head -c "$((size))" | sha256sum)
    if [ "${begun%% *}" = "${found%% *}" ]; then # all that it says is in what it is to say
        if [ -n "$dry" ]; then
            written=$((written + 1))
            done_or_would "~ $1 (only its beginning is there)"
            return
        fi
        rm -f -- "${1%/*}/._sigfs_restore"
        if make "${1%/*}/._sigfs_restore" "$3"; then
            mv -f -- "${1%/*}/._sigfs_restore" "$1" && done_or_would "~ $1 (only its beginning was there)"
        fi
    elif [ -z "$aside" ]; then
        trouble "$1: differs, and stays"
    elif [ -n "$dry" ]; then
        written=$((written + 1))
        done_or_would "~ $1"
    else
        number=1
        while [ -e "$1.$number~" ] || [ -h "$1.$number~" ]; do
            number=$((number + 1))
        done
        if mv -- "$1" "$1.$number~"; then
            make "$1" "$3" && done_or_would "~ $1 (what was there is now $1.$number~)"
        else
            trouble "$1: could not be renamed"
        fi
    fi
}

put_and_mend() { # PATH SUM CONTENT
    if [ -f "$1" ] && [ ! -h "$1" ]; then
        there=$((there + 1))
        mend "$@"
    else
        put "$1" "$3"
    fi
}

# One job

bring() { # FROM TO KEY: copy a job directory; whole, or not at all
    if [ -n "$dry" ]; then
        copied=$((copied + 1))
        done_or_would "+ $2/ from $1"
        return
    fi
    unfinished=${2%/*}/._sigfs_restore_$3
    if [ -e "$unfinished" ] || [ -h "$unfinished" ]; then
        rm -rf -- "$unfinished"
    fi
    if cp -a -- "$1/." "$unfinished" && mv -- "$unfinished" "$2"; then
        copied=$((copied + 1))
        done_or_would "+ $2/ from $1"
        return
    fi
    rm -rf -- "$unfinished"
    trouble "$2: could not be copied from $1"
    return 1
}

find_copy() { # NAME VIEW SUM: sets REPLY to where $copy has a job, if it has it: by its name, or as in the view
    REPLY=
    [ -n "$copy" ] || return
    for name in "$copy/$1" "$copy/$workspace/$1" ${2:+"$copy/$2"}; do
        if [ -d "$name" ]; then
            REPLY=$name
            break
        fi
    done
    if [ -n "$REPLY" ] && [ "$REPLY" = "$copy/$2" ] && [ -f "$REPLY/$statepoint" ]; then
        found=$(sha256sum <"$REPLY/$statepoint")
        if [ "${found%% *}" != "$3" ]; then
            trouble "$REPLY: its state point is not that of $1, so it is left out"
            REPLY=
        fi
    fi
}

make_directories() {
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086
        (cd -- "$target" && mkdir -- $missing)
    fi
    missing=
    missing_count=0
}

job_directory() {
    [ -z "$3" ] || return
    jobs=$((jobs + 1))
    if [ -h "$target/$1" ]; then
        trouble "$target/$1: is a symbolic link, and stays"
    elif [ ! -d "$target/$1" ]; then
        if [ -e "$target/$1" ]; then
            trouble "$target/$1: is no directory, and stays"
            return
        fi
        find_copy "$1" "$2" "$4"
        if [ -n "$REPLY" ]; then
            bring "$REPLY" "$target/$1" "$1"
            return
        fi
        made=$((made + 1))
        done_or_would "+ $target/$1/"
        [ -z "$dry" ] || return
        missing="$missing $1"
        missing_count=$((missing_count + 1))
        [ "$missing_count" -lt 500 ] || make_directories
    fi
}

job_files() {
    [ -z "$3" ] || return
    [ ! -h "$target/$1" ] || return
    if [ ! -d "$target/$1" ] && [ -z "$dry" ]; then
        trouble "$target/$1: could not be made"
        return
    fi
    put "$target/$1/$statepoint" "$5"
    [ $# -lt 7 ] || put "$target/$1/$document" "$7"
}

job_sums() {
    [ -z "$3" ] && [ ! -h "$1" ] || return
    if [ ! -h "$1/$statepoint" ] && [ -f "$1/$statepoint" ]; then
        printf '%s  %s\n' "$4" "$1/$statepoint"
    fi
    if [ $# -gt 6 ] && [ ! -h "$1/$document" ] && [ -f "$1/$document" ]; then
        printf '%s  %s\n' "$6" "$1/$document"
    fi
}

job_differs() {
    [ -z "$3" ] || return
    case $differing in
    *" $1/$statepoint "*) mend "$target/$1/$statepoint" "$4" "$5" ;;
    esac
    case $differing in
    *" $1/$document "*) [ $# -lt 7 ] || mend "$target/$1/$document" "$6" "$7" ;;
    esac
}

job_missing() {
    [ -z "$3" ] || return
    jobs=$((jobs + 1))
    if [ -h "$target/$1" ] || [ ! -d "$target/$1" ]; then
        trouble "$target/$1: is missing"
        return
    fi
    [ -f "$target/$1/$statepoint" ] || trouble "$target/$1/$statepoint: is missing"
    [ $# -lt 7 ] || [ -f "$target/$1/$document" ] || trouble "$target/$1/$document: is missing"
}

job_outside() { # of the workspace of a project
    [ -n "$3" ] || return
    jobs=$((jobs + 1))
    place=$root/$3
    if [ -h "$place" ]; then
        trouble "$place: is a symbolic link, and stays"
        return
    fi
    if [ ! -d "$place" ]; then
        case /$3/ in
        */../*)
            trouble "$place: is not there, and outside of $root: make the directory, and it gets its files"
            return
            ;;
        esac
        find_copy "$3" "$2" "$4"
        case $3 in
        */*) [ -n "$dry" ] || mkdir -p -- "${place%/*}" ;;
        esac
        if [ -n "$REPLY" ]; then
            bring "$REPLY" "$place" "$1" || return
        else
            made=$((made + 1))
            done_or_would "+ $place/"
            [ -n "$dry" ] || mkdir -- "$place" || trouble "$place: could not be made"
        fi
    fi
    [ -d "$place" ] || [ -n "$dry" ] || return
    put_and_mend "$place/$statepoint" "$4" "$5"
    [ $# -lt 7 ] || put_and_mend "$place/$document" "$6" "$7"
}

job_listed() {
    shown "$1	$2"
}

project_file() {
    case $1 in
    %/*) place=$target/${1#%/} ;;
    *)
        [ -n "$root" ] || return
        place=$root/${1#./}
        ;;
    esac
    [ -n "$dry" ] || mkdir -p -- "${place%/*}" || trouble "${place%/*}: could not be made"
    put_and_mend "$place" "$2" "$3"
}

# Commands

sums() { # WORKSPACE
    (
        cd -- "$1" && pass job_sums
    ) | (
        cd -- "$1" && sha256sum -c - 2>/dev/null
    )
}

find_differing() { # WORKSPACE: sets differing to the files in it that are there and not as they were
    differing=
    [ -d "$1" ] || return
    sums "$1" >/dev/null && return
    differing=$(
        sums "$1" | while read -r name answer; do
            case $answer in
            OK) ;;
            *) printf '%s ' "${name%:}" ;;
            esac
        done
    )
    differing=" $differing"
}

compare() { # look at all files that are there
    find_differing "$target"
    [ -z "$differing" ] || pass job_differs
}

workspace() {
    if [ -z "$dry" ] && ! mkdir -p -- "$target"; then
        trouble "$target: cannot be made"
        return
    fi
    on_file=project_file
    pass job_directory
    on_file=nothing
    make_directories
    pass job_files
    compare
}

view_directories() { # those that are missing, few at a time
    count=$#
    while [ "$count" -gt 0 ]; do
        place=$target/$1
        shift
        count=$((count - 1))
        if [ ! -d "$place" ] && ! through_link "$place"; then
            set -- "$@" "$place"
        fi
    done
    [ $# -eq 0 ] || [ -n "$dry" ] || mkdir -p -- "$@"
}

through_link() { # whether a directory in the target is reached by a link, which could lead anywhere
    [ "$1" != "$seen" ] || return "$seen_link"
    seen=$1
    seen_link=1
    above=$1
    while [ "$above" != "$target" ]; do
        if [ -h "$above" ]; then
            seen_link=0
            break
        fi
        above=${above%/*}
    done
    return "$seen_link"
}

relative() { # DIRECTORY: sets REPLY to the way to it from $target, with a slash at its end
    common=$target
    REPLY=
    while case $1/ in "$common"/*) false ;; esac; do
        common=${common%/*}
        REPLY=../$REPLY
    done
    rest=${1#"$common"}
    REPLY=$REPLY${rest#/}
    REPLY=${REPLY%/}/
    [ "$REPLY" != / ] || REPLY=
}

job_in_view() { # sets place, above and source; fails if there is nothing to be done
    [ -n "$2" ] || return
    jobs=$((jobs + 1))
    place=$target/$2
    directory=${place%/*}
    if [ -z "$3" ]; then
        source=$origin/$1
    elif [ -n "$root" ]; then
        source=$root/$3
    else
        trouble "$place: its job is outside of the workspace, and where is not known"
        return 1
    fi
    if [ "$directory" != "$target" ] && through_link "$directory"; then
        trouble "$place: the way there leads through a symbolic link, which is not followed"
        return 1
    fi
    if [ ! -d "$source" ]; then
        trouble "$place: there is no directory $source"
        return 1
    fi
}

job_link() {
    job_in_view "$@" || return
    if [ "$directory" != "$steps_of" ]; then # the way up from here to the target
        steps_of=$directory
        steps=
        while [ "$directory" != "$target" ]; do
            steps=../$steps
            directory=${directory%/*}
        done
    fi
    if [ -z "$3" ]; then
        text=$steps$way$1
    else
        text=$steps$way_to_root$3
    fi
    if [ -h "$place" ]; then
        # shellcheck disable=SC3013
        if [ "$place" -ef "$source" ]; then # in POSIX since 2024, in every shell for long
            there=$((there + 1))
        else
            trouble "$place: is another link, and stays"
        fi
    elif [ -e "$place" ]; then
        trouble "$place: is there, and stays"
    elif [ -n "$dry" ]; then
        written=$((written + 1))
        done_or_would "+ $place"
    elif ln -s -- "$text" "$place"; then
        written=$((written + 1))
        done_or_would "+ $place"
    else
        trouble "$place: could not be made"
    fi
}

job_copy() {
    job_in_view "$@" || return
    if [ -h "$place" ]; then
        trouble "$place: is a symbolic link, and stays"
        return
    elif [ ! -e "$place" ]; then
        bring "$source" "$place" "$1" || return
        [ -z "$dry" ] || return
        case $3,$differing in
        ,*" $1/"* | ?*,*) ;; # to be looked at, as what is there
        *)
            put "$place/$statepoint" "$5"
            [ $# -lt 7 ] || put "$place/$document" "$7"
            return
            ;;
        esac
    elif [ ! -d "$place" ]; then
        trouble "$place: is no directory, and stays"
        return
    fi
    put_and_mend "$place/$statepoint" "$4" "$5"
    [ $# -lt 7 ] || put_and_mend "$place/$document" "$6" "$7"
}

view() { # job_link or job_copy
    if [ -z "$dry" ]; then
        mkdir -p -- "$target" || exit 1
    fi
    if [ -d "$target" ]; then
        physical "$target"
        target=$REPLY
    fi
    case $target/ in
    "$origin"/*) wrong "$target is in the workspace" ;;
    esac
    relative "$origin"
    way=$REPLY
    if [ -n "$root" ]; then
        relative "$root"
        way_to_root=$REPLY
    fi
    on_directories=view_directories
    pass nothing
    on_directories=nothing
    pass "$1"
}

main() {
    case $0 in
    */*) self=$0 ;;
    *) self=./$0 ;;
    esac
    here=$(pwd -P && echo .) || exit 1
    here=${here%??}
    absolute "$self"
    self=$REPLY
    if [ "$(tail -n 1 -- "$self")" != "# end of restore.sh" ]; then
        wrong "this is not the whole script, or it was not started as sh restore.sh"
    fi
    found=$(printf '' | sha256sum)
    [ "${found%% *}" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ] || wrong "sha256sum is missing"
    sigfs_restoring=1
    dry='' verbose='' aside='' removed='' root='' copy='' missing='' seen='' steps_of=''
    troubles=0 jobs=0 made=0 copied=0 written=0 there=0 missing_count=0
    on_file=nothing on_directories=nothing
    statepoint=signac_statepoint.json
    document=signac_job_document.json
    while :; do
        case ${1-} in
        -n | --dry-run) dry=1 verbose=1 ;;
        -v | --verbose) verbose=1 ;;
        --aside) aside=1 ;;
        --removed) removed=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        -*) wrong "there is no option $1" ;;
        *) break ;;
        esac
        shift
    done
    [ $# -gt 0 ] || wrong "what is to be done?"
    command=$1
    shift
    [ "${1-}" != -- ] || shift
    case $command,$# in
    workspace,1 | project,1 | verify,1)
        absolute "$1"
        target=$REPLY
        ;;
    workspace,2 | project,2)
        physical "$1"
        copy=$REPLY
        absolute "$2"
        target=$REPLY
        ;;
    links,1 | copies,1 | links,2 | copies,2)
        physical "${2-$origin}"
        origin=$REPLY
        absolute "$1"
        target=$REPLY
        case $origin in
        */"$workspace") root=${origin%/"$workspace"} ;;
        esac
        [ $# -eq 2 ] || root=$project
        ;;
    list,0) ;;
    workspace,* | project,* | verify,* | links,* | copies,* | list,*) wrong "$command takes other arguments" ;;
    *) wrong "there is no command $command" ;;
    esac
    would=
    [ -z "$dry" ] || would='would be '
    case $command in
    list)
        pass job_listed
        exit 0
        ;;
    verify)
        dry=1
        [ -d "$target" ] || wrong "there is no directory $target"
        pass job_missing
        compare
        echo "$jobs jobs looked at, $troubles things missing or not as they were"
        ;;
    links)
        view job_link
        echo "$jobs jobs in the view: $written links ${would}made, $there there already, $troubles not done"
        ;;
    copies)
        find_differing "$origin"
        view job_copy
        echo "$jobs jobs in the view: $copied ${would}copied, $written files ${would}put back, $troubles not done"
        ;;
    *)
        if [ "$command" = project ]; then
            root=$target
            case $workspace in
            /*) target=$workspace ;;
            *) target=$root/$workspace ;;
            esac
        fi
        workspace
        [ "$command" = workspace ] || pass job_outside
        echo "$jobs jobs: $copied ${would}copied, $made ${would}made without data, $written files ${would}put back," \
            "$there there already, $troubles not as they were, or not done"
        ;;
    esac
    [ "$troubles" -eq 0 ]
    exit
}
