"""Parity checks: does the exported file compute what the network computes?"""
