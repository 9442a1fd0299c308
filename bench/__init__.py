"""`cascade bench`: how long pictures take, at any cut, over any link, under any load.

See DESIGN.md beside it. Drives systems as their users do, from outside; imports no server and no
torch. Importing it loads nothing else.
"""
