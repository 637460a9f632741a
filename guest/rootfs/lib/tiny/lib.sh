# Shared by the scripts here: words to the console, module loading, answers from JSON.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
run=/run/tiny
state=/var/lib/tiny

say() {
    echo "tiny: $*" > /dev/console
}

load() {
    while read -r module; do
        insmod "/lib/modules/$module.ko" 2>/dev/null
    done < "/lib/modules/$1.list"
}

# field FILE PATH: the first line of the value at that path, from a file that json.awk wrote.
field() {
    awk -F '\t' -v path="$2" '$1 == path { print substr($0, length(path) + 2); exit }' "$1"
}
